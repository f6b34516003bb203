"""Put the figures of all seeds side by side: scores, cosines, accuracies of classification."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.errors import StkError
from stk.training.metrics import read_metrics


def read(work: Path, seeds: Sequence[int]) -> dict[str, dict[int, dict[str, Any]]]:
    """Name of a scores file -> seed -> its content."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for seed in seeds:
        for file in sorted((work / f"seed{seed}" / "scores").glob("*.json")):
            found.setdefault(file.stem, {})[seed] = json.loads(file.read_text(encoding="utf-8"))
    return found


def systems(scores: dict[str, Any]) -> list[str]:
    """Systems of a scores file, the baseline first."""
    names = [Path(row["system"]).stem for row in scores["scores"] if row["group"] is None]
    return list(dict.fromkeys(names))


def value(scores: dict[str, Any], system: str, metric: str) -> float:
    """A score in percent."""
    return float(
        next(
            row["value"]
            for row in scores["scores"]
            if Path(row["system"]).stem == system
            and row["name"].startswith(metric)
            and row["group"] is None
        )
    )


def p_values(scores: dict[str, Any], system: str) -> str:
    """p of the paired bootstrap in BLEU against the baseline; empty for the baseline."""
    for test in scores.get("comparisons", ()):
        if Path(test["system_name"]).stem == system and test["metric"].startswith("BLEU"):
            return f"{test['p_value']:.3f}"
    return ""


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    mean = f"{statistics.mean(values):{sign}.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def fine(values: Sequence[float]) -> str:
    """Mean of losses over seeds, and the standard deviation where there are several."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def markdown(name: str, by_seed: dict[int, dict[str, Any]]) -> str:
    """One table."""
    first = next(iter(by_seed.values()))
    names = systems(first)
    lines = [
        f"{name}, seeds {', '.join(map(str, by_seed))}, {names[0]} is the baseline",
        "",
        "| system | BLEU | difference | p, a seed each | chrF |",
        "|---|---|---|---|---|",
    ]
    for system in names:
        bleu = [value(scores, system, "BLEU") for scores in by_seed.values()]
        chrf = [value(scores, system, "chrF") for scores in by_seed.values()]
        base = [value(scores, names[0], "BLEU") for scores in by_seed.values()]
        gain = [own - other for own, other in zip(bleu, base, strict=True)]
        tests = ", ".join(filter(None, (p_values(scores, system) for scores in by_seed.values())))
        difference = "" if system == names[0] else spread(gain, "+")
        lines.append(f"| {system} | {spread(bleu)} | {difference} | {tests} | {spread(chrf)} |")
    return "\n".join(lines)


def similarities(work: Path, seeds: Sequence[int]) -> str:
    """Mean cosine of the held-out dictionary pairs, a system and language a row."""
    lines = ["| model | lexicon | pairs | mean cosine | of no pairs |", "|---|---|---|---|---|"]
    for seed in seeds:
        for file in sorted((work / f"seed{seed}" / "similarity").glob("*.json")):
            for row in json.loads(file.read_text(encoding="utf-8"))["lexicons"]:
                lexicon = Path(row["lexicon"]).stem
                model = f"{Path(row['checkpoint']).name}, seed {seed}"
                cosines = (f"{row[key]:.3f}" for key in ("cosine", "unrelated"))
                cells = (model, lexicon, row["pairs"], *cosines)
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def listened(work: Path, seeds: Sequence[int]) -> str:
    """Loss a token with the own source and with another row's, means over seeds, a system a row."""
    files = [work / f"seed{seed}" / "listening.json" for seed in seeds]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    if not found:
        return ""
    lines = [
        "| translator | loss, own source | loss, another row's | difference |",
        "|---|---|---|---|",
    ]
    for name in found[0]:
        own, other = ([each[name][key] for each in found] for key in ("own", "other"))
        gain = [b - a for a, b in zip(own, other, strict=True)]
        lines.append(f"| {name} | " + " | ".join(fine(x) for x in (own, other, gain)) + " |")
    return "\n".join(lines)


def classified(work: Path, seeds: Sequence[int]) -> str:
    """Accuracy in every language of what tells kinds of books apart, a training a row."""
    rows: list[tuple[str, dict[str, float]]] = []
    for seed in seeds:
        for name in ("classes-direct", "classes"):
            judged = [
                line
                for line in read_metrics(work / f"seed{seed}" / name / "metrics.jsonl")
                if line["kind"] == "valid"
            ]
            if judged:
                found = re.compile(r"test/(\w+)/accuracy").fullmatch
                cells = {m[1]: 100 * v for key, v in judged[-1].items() if (m := found(key))}
                rows.append((f"{name}, seed {seed}", cells))
    if not rows:
        return ""
    languages = sorted(rows[0][1], key=lambda language: (language != "en", language))
    lines = [
        "kind of book, accuracy in percent, tuned on English",
        "",
        f"| training | {' | '.join(languages)} |",
        "|---" * (1 + len(languages)) + "|",
    ]
    for name, cells in rows:
        lines.append(f"| {name} | " + " | ".join(f"{cells[x]:.1f}" for x in languages) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Parse the options, print and write the tables.

    Raises:
        StkError: no seed has anything to show.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    parts = [markdown(name, found) for name, found in read(options.work, options.seeds).items()]
    parts += [show(options.work, options.seeds) for show in (similarities, listened, classified)]
    if not any(parts):
        raise StkError("no scores there", file=options.work, mend="run the stages before")
    text = "\n\n".join(filter(None, parts))
    print(text)
    write_text(options.out, text + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
