"""The commands of ``stk-data`` for sound without text: scan, filter."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

from stk.cli.common import progress
from stk.data.manifest import Manifest, SkipList, write_manifest


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    p = commands.add_parser("scan", help="a manifest of every sound file below a folder")
    p.add_argument("folder")
    p.add_argument("output")
    p.add_argument("--src-lang", metavar="CODE", help="what is spoken")
    p.add_argument("--speakers", action="store_true", help="folders below FOLDER name speakers")
    p.add_argument("--skip-bad", metavar="LIST", help="leave unreadable files out and list them")
    p.set_defaults(body=_scan)

    p = commands.add_parser("filter", help="leave rows out that are too short or too long")
    p.add_argument("input")
    p.add_argument("output")
    p.add_argument("--min-seconds", type=float, metavar="S")
    p.add_argument("--max-seconds", type=float, metavar="S")
    p.add_argument("--max-chars", type=int, metavar="N", help="of each text")
    p.add_argument("--max-chars-per-second", type=float, metavar="R", help="of the transcript")
    p.set_defaults(body=_filter)


def _scan(args: argparse.Namespace) -> int:
    from stk.data.folder import find_sound, sound_examples

    skipped = SkipList(args.skip_bad) if args.skip_bad else None
    files = find_sound(args.folder)
    rows = sound_examples(
        progress(files, total=len(files), title="scan"),
        args.folder,
        src_lang=args.src_lang,
        speakers=args.speakers,
        skip_bad=skipped,
    )
    count = write_manifest(args.output, rows)
    if skipped is not None:
        skipped.write()
        print(f"{args.skip_bad}: {len(skipped)} files left out", file=sys.stderr)
    print(f"{args.output}: {count} rows")
    return 0


def _filter(args: argparse.Namespace) -> int:
    from stk.data.length_filter import LengthFilter

    names = ("min_seconds", "max_seconds", "max_chars", "max_chars_per_second")
    chosen = LengthFilter(**{name: getattr(args, name) for name in names})
    left_out: Counter[str] = Counter()
    manifest = Manifest(args.input)
    rows = progress(manifest, total=len(manifest), title="filter")
    count = write_manifest(args.output, chosen(rows, left_out))
    for reason, times in sorted(left_out.items()):
        print(f"left out, {reason}: {times}", file=sys.stderr)
    print(f"{args.output}: {count} of {len(manifest)} rows")
    return 0
