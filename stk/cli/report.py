"""``python -m stk.cli.report``: a page with a run's figures, examples and pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stk.cli.common import run
from stk.decoding.translator import load
from stk.errors import StkError
from stk.reports.page import Part, write_page
from stk.reports.run import clip_parts, curve_part, example_table, figure_table, score_table
from stk.scoring.files import read_outputs, read_references


def parser() -> argparse.ArgumentParser:
    """The options of the report."""
    p = argparse.ArgumentParser(prog="python -m stk.cli.report", description=__doc__)
    p.add_argument("--run", required=True, metavar="DIR", help="a run's output directory")
    p.add_argument("--output", required=True, metavar="FILE", help="HTML file to write")
    p.add_argument("--title", default="Report", help="heading of the page")
    p.add_argument("--audio", metavar="FILE", help="a clip to look into")
    p.add_argument("--checkpoint", metavar="DIR", help="model for the clip (the run's best)")
    p.add_argument("--source-lang", metavar="CODE", help="of the clip, where the task needs it")
    p.add_argument("--target-lang", metavar="CODE", help="of the clip, where the task needs it")
    p.add_argument("--figures", metavar="FILE", help="JSON of names and values to list")
    p.add_argument("--scores", metavar="FILE", help="what stk-score --json wrote")
    p.add_argument("--decoded", metavar="FILE", help="what stk-decode --output wrote, for examples")
    p.add_argument("--manifest", metavar="FILE", help="references of --decoded")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    if (args.decoded is None) != (args.manifest is None):
        raise StkError("--decoded and --manifest go together")
    parts: list[Part] = []
    if args.figures:
        parts.append(figure_table(_json(args.figures)))
    if args.scores:
        parts.append(score_table(_json(args.scores)["scores"]))
    if args.decoded:
        parts.append(example_table(read_outputs(args.decoded), read_references(args.manifest)))
    parts.append(curve_part(args.run))
    if args.audio:
        translator = load(args.checkpoint or args.run, device="cpu")
        parts += clip_parts(
            translator, args.audio, source_lang=args.source_lang, target_lang=args.target_lang
        )
    write_page(args.output, args.title, parts)
    print(args.output)
    return 0


def _json(file: str) -> Any:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise StkError(f"not JSON: {error}", file=file) from None


if __name__ == "__main__":
    sys.exit(main())
