"""Hours, counts, coverage and lengths of a prepared corpus, beside the published counts.

Writes statistics.json and lengths.png; warns where counts differ from the published ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.data.example import Example
from stk.data.manifest import read_manifest


def words(examples: Sequence[Example], field: str) -> set[str]:
    """Different words, case and outer punctuation taken away."""
    found: set[str] = set()
    for example in examples:
        found.update((getattr(example, field) or "").casefold().split())
    return {word.strip(".,;:!?\"'()[]-") for word in found}


def coverage(train: Sequence[Example], other: Sequence[Example], field: str) -> float:
    """Share of the other set's different words that training has, in percent."""
    wanted = words(other, field)
    return 100 * len(wanted & words(train, field)) / max(1, len(wanted))


def group_of(example: Example) -> str:
    """The direction of a row, such as ``en-de``."""
    return f"{example.src_lang}-{example.tgt_lang}"


def counted(sets: dict[str, list[Example]]) -> dict[str, dict[str, dict[str, float]]]:
    """Direction -> set (and ``all``) -> rows and hours."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in sets.items():
        for row in rows:
            for key in (name, "all"):
                cell = found.setdefault(group_of(row), {}).setdefault(key, {"rows": 0, "hours": 0})
                cell["rows"] += 1
                cell["hours"] += (row.duration or 0.0) / 3600
    return found


def warnings(found: dict[str, Any], published: dict[str, Any]) -> list[str]:
    """One line a count that differs from the published one by more than its tolerance.

    Args:
        found: as :func:`counted` returns it.
        published: ``sources`` (unit -> who says so), ``tolerance`` (a share) and ``counts`` in the
            form of ``found``, where ``least_hours`` is a bound from below; what it does not hold is
            not compared.
    """
    lines = []
    for pair, sets in found.items():
        for name, wanted in published["counts"].get(pair, {}).items():
            for kind, value in wanted.items():
                unit = kind.removeprefix("least_")
                least = "at least " if unit != kind else ""
                have = sets.get(name, {}).get(unit, 0)
                differs = value - have if least else abs(value - have)
                if differs > published["tolerance"] * value:
                    lines.append(
                        f"{pair}, {name}: {have:.6g} {unit}, published {least}{value:.6g} "
                        f"({published['sources'][kind]})"
                    )
    return lines


def main(argv: list[str]) -> None:
    """Parse the options, count, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="where SET.jsonl lie")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--published", type=Path, required=True)
    options = parser.parse_args(argv)
    sets = {
        name: read_manifest(options.data / f"{name}.jsonl")
        for name in options.sets
        if (options.data / f"{name}.jsonl").is_file()
    }
    found = counted(sets)
    print(f"{'direction':<12} {'set':<12} {'segments':>9} {'hours':>8}")
    for pair, cells in found.items():
        for name, cell in cells.items():
            print(f"{pair:<12} {name:<12} {cell['rows']:>9.0f} {cell['hours']:>8.2f}")
    known = {
        name: {
            field: round(coverage(sets["train"], rows, field), 2)
            for field in ("src_text", "tgt_text")
        }
        for name, rows in sets.items()
        if name != "train"
    }
    for name, shares in known.items():
        print(
            f"{name}: training has {shares['src_text']:.1f} % of its source words, "
            f"{shares['tgt_text']:.1f} % of its target words"
        )
    published = json.loads(options.published.read_text(encoding="utf-8"))
    warned = warnings(found, published)
    for line in warned:
        print(f"warning: {line}", file=sys.stderr)
    note = {"counts": found, "words_in_training": known, "warnings": warned}
    write_text(options.data / "statistics.json", json.dumps(note, indent=1) + "\n")
    draw(sets, options.data / "lengths.png")
    print(f"histograms of lengths: {options.data / 'lengths.png'}")


def draw(sets: dict[str, list[Example]], path: Path) -> None:
    """Histograms of seconds and of words over all sets."""
    from stk.data.statistics import collect, plot

    plot(collect(row for rows in sets.values() for row in rows), path)


if __name__ == "__main__":
    sys.exit(run(main))
