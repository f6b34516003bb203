"""Write the demo's report: a page with tables and pictures, and the summary that is printed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from summary import Summary, as_text, summarise, table

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.decoding.translator import load
from stk.reports.page import Note, Part, Table, write_page
from stk.reports.run import clip_parts, curve_part


def parts_of(summary: Summary, work: Path) -> list[Part]:
    """The page: scores, speed, examples, learning curve, one clip looked into."""
    first = summary.sets[0]
    head, *rows = table(summary)
    said = [(e.source, e.reference, e.output) for e in summary.examples]
    return [
        Table("Scores", head, rows),
        Note(f"BLEU: {first.bleu_signature}. chrF: {first.chrf_signature}."),
        *(Note(f"{name} was left out: {why}.") for name, why in summary.left_out.items()),
        Note(summary.speed),
        Table("Five translations", ("said", "reference", "translated"), said),
        curve_part(work / "st"),
        *clip_parts(load(work / "averaged", device="cpu"), summary.examples[0].audio),
    ]


def main(argv: list[str]) -> None:
    """Parse the options and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="what run.sh worked in")
    work = parser.parse_args(argv).work
    summary = summarise(work)
    page = work / "report" / "index.html"
    write_page(page, "Speech translation from nothing", parts_of(summary, work))
    write_text(page.with_name("summary.txt"), as_text(summary, page.resolve()))


if __name__ == "__main__":
    sys.exit(run(main))
