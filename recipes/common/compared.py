"""The table of compared systems: scores, tests, sizes and times of every seed, as Markdown."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from stk.cli.common import run
from stk.config.strict import load_mapping
from stk.data.atomic import write_text
from stk.errors import StkError

METRICS = ("chrF2", "BLEU")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        StkError: it is not there.
    """
    if not path.is_file():
        raise StkError("no such file", file=path, mend="run the stages before")
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def spread(values: Sequence[float | None], digits: int = 1) -> str:
    """Mean over seeds, with the standard deviation where there are several; a dash for none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


def weights_of(command: Sequence[str]) -> list[Path]:
    """The checkpoints that a call of stk-decode names, those of a cascade's second model too."""
    found, taking = [], False
    for word in command:
        if word.startswith("--"):
            taking = word in ("--checkpoint", "--then")
        elif taking:
            found.append(Path(word) / "model.safetensors")
    return found


def parameters(files: Sequence[Path]) -> int:
    """Numbers in the tensors of some checkpoints."""
    count = 0
    for path in files:
        with safe_open(path, framework="pt") as weights:
            names = list(weights.keys())
            for name in names:
                size = 1
                for side in weights.get_slice(name).get_shape():
                    size *= side
                count += size
    return count


@dataclass(frozen=True)
class Figures:
    """What is known of one system of one seed on one test set.

    Attributes:
        scores: metric -> percent; only of translators.
        tests: metric -> the paired bootstrap against the baseline; empty for the baseline.
        wer: of the transcript in percent, or None.
        parameters: of everything that decodes.
        minutes: of all steps, those shared with other systems included.
        cpu_minutes: of all cores together, the same; other work on the machine hardly changes them.
        short: steps that ended before their last update, with the reached and the wanted one.
        real_time_factor: decoding seconds per second of sound, or None for text.
    """

    scores: dict[str, float]
    tests: dict[str, dict[str, Any]]
    wer: float | None
    parameters: int
    minutes: float
    cpu_minutes: float
    short: dict[str, str]
    real_time_factor: float | None


def figures(folder: Path, test: str, system: str, steps: Sequence[str]) -> Figures:
    """Gather a system's figures from what the stages of one seed wrote.

    Args:
        folder: of the seed.
        test: the test set.
        system: its name.
        steps: those that were run here.

    Raises:
        StkError: a stage has not run.
    """
    found = read_json(folder / "scores" / test / "translation.json")
    rows = [r for r in found["scores"] if name_of(r["system"]) == system and r["group"] is None]
    tests = [c for c in found.get("comparisons", ()) if name_of(c["system_name"]) == system]
    transcript = folder / "scores" / test / f"wer-{system}.json"
    wer = None
    if transcript.is_file():
        wer = next(r["value"] for r in read_json(transcript)["scores"] if r["group"] is None)
    decoding = read_json(folder / "measured" / f"decode-{system}-{test}.json")
    times = [read_json(folder / "measured" / f"{step}.json") for step in steps]
    return Figures(
        scores={row["name"]: row["value"] for row in rows},
        tests={test["metric"]: test for test in tests},
        wer=wer,
        parameters=parameters(weights_of(decoding["command"])),
        minutes=sum(time["seconds"] for time in times) / 60,
        cpu_minutes=sum(time["cpu_seconds"] for time in times) / 60,
        short=dict(filter(None, (cut_short(folder, step) for step in steps))),
        real_time_factor=read_json(folder / "decoded" / system / f"{test}.json")[
            "real_time_factor"
        ],
    )


def cut_short(folder: Path, step: str) -> tuple[str, str] | None:
    """A training that its time or its patience ended before its last update, and where."""
    log = folder / step / "metrics.jsonl"
    if not log.is_file():
        return None
    reached = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["update"]
    wanted = load_mapping(folder / step / "config.yaml")["training"]["max_updates"]
    return (step, f"{reached} of {wanted}") if reached < wanted else None


def name_of(path: str) -> str:
    """The system whose output a file is: decoded/SYSTEM/SET.jsonl."""
    return Path(path).parent.name


Found = dict[str, dict[int, Figures]]
"""System -> seed -> figures."""


def side_by_side(found: Found) -> str:
    """Means over seeds: a row a system."""
    heads = ("transcript WER", "parameters (M)", "minutes", "CPU minutes", "real-time factor")
    rows = [["system", *METRICS, *heads]]
    for system, seeds in found.items():
        every = list(seeds.values())
        row = [spread([one.scores.get(metric) for one in every]) for metric in METRICS]
        row.append(spread([one.wer for one in every]))
        row.append(f"{every[0].parameters / 1e6:.2f}")
        row.append(spread([one.minutes for one in every]))
        row.append(spread([one.cpu_minutes for one in every]))
        row.append(spread([one.real_time_factor for one in every], 4))
        rows.append([system, *row])
    return markdown(rows)


def seed_by_seed(found: Found) -> str:
    """Each seed's scores, with the test against the baseline."""
    seeds = list(next(iter(found.values())))
    rows = [["system", "metric", *(f"seed {seed}" for seed in seeds)]]
    for system, every in found.items():
        for metric in METRICS:
            if metric in every[seeds[0]].scores:
                rows.append([system, metric, *(cell(every[seed], metric) for seed in seeds)])
    return markdown(rows)


def cell(one: Figures, metric: str) -> str:
    """A score, and its difference to the baseline with interval and p-value."""
    text = f"{one.scores[metric]:.1f}"
    if metric not in one.tests:
        return text
    test = one.tests[metric]
    interval = f"{test['low']:+.1f} to {test['high']:+.1f}"
    return f"{text} ({test['difference']:+.1f}; {interval}; p {test['p_value']:.3f})"


def early(found: Found) -> str:
    """The trainings that ended before their last update, or that none did."""
    ended = {
        f"{step} of seed {seed} ({updates})"
        for seeds in found.values()
        for seed, one in seeds.items()
        for step, updates in one.short.items()
    }
    if not ended:
        return "Every training came to its last update."
    return f"Ended before their last update, by time or patience: {', '.join(sorted(ended))}."


def counted(given: Sequence[str]) -> str:
    """What the minutes of the table are of."""
    text = "Minutes are of all trainings that a system needs, shared ones included"
    if not given:
        return f"{text}. "
    return f"{text}, but without those made before for all seeds: {', '.join(sorted(given))}. "


def section(
    work: Path,
    test: str,
    seeds: Sequence[int],
    systems: dict[str, list[str]],
    given: Sequence[str],
) -> str:
    """Both tables of one test set, with signatures; ``given`` names steps trained elsewhere."""
    systems = {name: [s for s in steps if s not in given] for name, steps in systems.items()}
    found = {
        system: {seed: figures(work / f"seed{seed}", test, system, steps) for seed in seeds}
        for system, steps in systems.items()
    }
    scored = read_json(work / f"seed{seeds[0]}" / "scores" / test / "translation.json")
    signatures = {row["name"]: row["signature"] for row in scored["scores"]}
    signed = ", ".join(f"{metric}: {signatures[metric]}" for metric in METRICS)
    return "\n\n".join(
        [
            f"## {test}",
            side_by_side(found),
            f"{signed}. {counted(given)}{early(found)}",
            "Difference to the first system that translates, 95 % interval and p-value: paired "
            "bootstrap over distinct references.",
            seed_by_seed(found),
        ]
    )


def main(argv: list[str]) -> None:
    """Parse the options, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--systems", nargs="+", required=True, help="NAME=STEP STEP ...")
    parser.add_argument("--given", nargs="*", default=[], help="steps that were trained elsewhere")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    pairs = [text.partition("=") for text in options.systems]
    systems = {name: steps.split() for name, _, steps in pairs}
    parts = [
        section(options.work, test, options.seeds, systems, options.given) for test in options.sets
    ]
    text = "\n\n".join(parts)
    print(text)
    write_text(options.out, text + "\n")
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    sys.exit(run(main))
