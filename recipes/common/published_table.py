"""Scores of a recipe's systems beside the published ones, as Markdown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stk.cli.common import run
from stk.data.atomic import write_text

NOT_RUN = "not run on the real corpus yet"
NO_SCORE = "none on this corpus"
HEAD = ("run", "test set", "language", "score", "ours", "published")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


@dataclass(frozen=True)
class Names:
    """How published.json names what a score was grouped by.

    Attributes:
        translation: a pattern, such as ``en_{}`` for the direction to a language.
        recognition: the language of word error rates, where it is not the one spoken.
    """

    translation: str
    recognition: str | None

    def of(self, group: str | None, metric: str) -> str | None:
        """The published name of a group."""
        if group is None:
            return None
        if metric == "WER":
            return self.recognition or group
        return self.translation.format(group)


def published_for(
    published: Sequence[dict[str, Any]], run_name: str, test: str, group: str | None, metric: str
) -> str:
    """The published scores of one cell, with size and source; empty where there is none.

    Systems that were published on other corpora alone have a row without a value.
    """
    wanted = {"run": run_name, "set": test, "language": group, "metric": metric}
    return "; ".join(
        f"{row['value']} ({row['size']}, {row['source']})"
        for row in published
        if row["value"] is not None and all(row[key] == value for key, value in wanted.items())
    )


def ours(
    folder: Path, runs: Sequence[str], published: Sequence[dict[str, Any]], names: Names
) -> tuple[list[tuple[str, ...]], set[str]]:
    """A row for every score of every run, and the metrics' signatures."""
    rows: list[tuple[str, ...]] = []
    signatures: set[str] = set()
    for name in runs:
        for path in sorted((folder / name).glob("*.json")):
            test = path.stem.removesuffix("-char").removesuffix("-wer")
            found = json.loads(path.read_text(encoding="utf-8"))["scores"]
            groups = {row["group"] for row in found}
            for row in found:
                if row["group"] is None and len(groups) == 2:
                    continue  # one language: the whole is that language
                metric = row["name"] + ("-char" if path.stem.endswith("-char") else "")
                signatures.add(f"{metric}: {row['signature']}")
                language = names.of(row["group"], metric)
                other = published_for(published, name, test, language, metric)
                cell = f"{row['value']:.1f}"
                rows.append((name, test, row["group"] or "all", metric, cell, other or "-"))
    return rows, signatures


def results(published: Sequence[dict[str, Any]]) -> str:
    """The table of RESULTS.md: every system, its published scores, none of ours."""
    rows = [("run", "size", "test set", "language", "score", "published", "source", "ours")]
    rows += [
        tuple(str(row[k]) for k in ("run", "size", "set", "language", "metric"))
        + (NO_SCORE if row["value"] is None else str(row["value"]), row["source"], NOT_RUN)
        for row in published
    ]
    return markdown(rows)


def main(argv: list[str]) -> None:
    """Parse the options, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--results", action="store_true", help="print RESULTS.md's table and stop")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--runs", nargs="+")
    parser.add_argument("--size")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--language", default="{}", help="pattern of published names")
    parser.add_argument("--asr-language", help="published name of recognition's language")
    options = parser.parse_args(argv)
    published = json.loads(options.published.read_text(encoding="utf-8"))["scores"]
    if options.results:
        print(results(published))
        return
    names = Names(options.language, options.asr_language)
    rows, signatures = ours(options.scores, options.runs, published, names)
    text = "\n\n".join(
        [f"Size {options.size}.", markdown([HEAD, *rows]), "\n".join(sorted(signatures))]
    )
    print(text)
    write_text(options.out, text + "\n")
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    sys.exit(run(main))
