"""Print the scores of every seed side by side, and write them as Markdown."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stk.cli.common import run
from stk.data.atomic import write_text

SYSTEMS = {"st-scratch": "from scratch", "st-from-asr": "from ASR"}


class Scores:
    """The scores that stk-score wrote for one seed."""

    def __init__(self, work: Path, seed: int) -> None:
        folder = work / f"seed{seed}" / "scores"
        self.translation: dict[str, Any] = json.loads((folder / "st.json").read_text())
        self.recognition: dict[str, Any] = json.loads((folder / "asr.json").read_text())

    def value(self, system: str, metric: str, group: str | None) -> float:
        """The score of a translator (a key of SYSTEMS) in percent."""
        return next(
            row["value"]
            for row in self.translation["scores"]
            if (Path(row["system"]).stem, row["name"], row["group"]) == (system, metric, group)
        )

    def signature(self, metric: str) -> str:
        """The settings of a metric."""
        return next(row["signature"] for row in self.translation["scores"] if row["name"] == metric)

    def errors(self, group: str | None) -> dict[str, float]:
        """The recogniser's error rates in percent, by name."""
        rows = self.recognition["scores"]
        return {row["name"]: row["value"] for row in rows if row["group"] == group}

    def groups(self) -> list[str | None]:
        """Languages in order, then None for all together."""
        names = {row["group"] for row in self.translation["scores"]}
        return [*sorted(name for name in names if name is not None), None]

    def comparisons(self) -> list[dict[str, Any]]:
        """Paired bootstrap tests, one a metric."""
        return list(self.translation["comparisons"])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def spread(values: Sequence[float]) -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def by_language(scores: dict[int, Scores]) -> str:
    """chrF first, then BLEU, and the recogniser's error rates, by language and overall."""
    first = next(iter(scores.values()))
    errors = list(first.errors(None))
    head = ["language"]
    head += [f"{metric} {label}" for metric in ("chrF2", "BLEU") for label in SYSTEMS.values()]
    rows = [[*head, *(f"ASR {name}" for name in errors)]]
    for group in first.groups():
        row = [group or "all"]
        for metric in ("chrF2", "BLEU"):
            for system in SYSTEMS:
                row.append(spread([s.value(system, metric, group) for s in scores.values()]))
        row += [spread([s.errors(group)[name] for s in scores.values()]) for name in errors]
        rows.append(row)
    return markdown(rows)


def by_seed(scores: dict[int, Scores]) -> str:
    """Each seed's difference between the two translators, with its interval."""
    rows = [["seed", "metric", *SYSTEMS.values(), "difference", "95 % interval", "p"]]
    for seed, found in scores.items():
        for test in found.comparisons():
            low, high = test["low"], test["high"]
            rows.append(
                [
                    str(seed),
                    test["metric"],
                    f"{test['baseline']:.1f}",
                    f"{test['system']:.1f}",
                    f"{test['difference']:+.1f}",
                    f"{low:+.1f} to {high:+.1f}",
                    f"{test['p_value']:.3f}",
                ]
            )
    return markdown(rows)


def main(argv: list[str]) -> None:
    """Parse the options, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    options = parser.parse_args(argv)
    scores = {seed: Scores(options.work, seed) for seed in options.seeds}
    first = next(iter(scores.values()))
    text = "\n\n".join(
        [
            by_language(scores),
            f"chrF: {first.signature('chrF2')}, BLEU: {first.signature('BLEU')}",
            "Paired bootstrap, resampled by English sentence:",
            by_seed(scores),
        ]
    )
    print(text)
    write_text(options.work / "table.md", text + "\n")
    print(f"\nwritten to {options.work / 'table.md'}")


if __name__ == "__main__":
    sys.exit(run(main))
