"""The commands of ``stk-data`` that look and change nothing: validate, check, stats."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from stk.cli.common import progress
from stk.data.example import Example
from stk.data.manifest import Manifest, SkipList
from stk.data.vocab import load_vocab
from stk.errors import StkError


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    p = commands.add_parser("validate", help="name every bad row; exit 1 if there is one")
    p.add_argument("manifest", nargs="+")
    p.add_argument(
        "--audio",
        choices=("full", "header", "none"),
        default="full",
        help="decode all sound (default), look at headers, or leave it alone",
    )
    p.add_argument("--needs", nargs="+", default=(), metavar="FIELD", help="fields to demand")
    p.add_argument("--vocab", metavar="DIR", help="must have a tag for every language")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="threads that decode")
    p.add_argument(
        "--skip-bad", metavar="LIST", help="write bad rows to LIST and exit 0 if good ones remain"
    )
    p.set_defaults(body=_validate)

    p = commands.add_parser("check", help="what the streams of a run use and leave out")
    p.add_argument("config", help="YAML file of a run")
    p.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    p.add_argument("--rows", action="store_true", help="name every example left out")
    p.set_defaults(body=_check)

    p = commands.add_parser("stats", help="counts, hours, languages, lengths")
    p.add_argument("manifest", nargs="+")
    p.add_argument("--vocab", metavar="DIR", help="count its tokens instead of words")
    p.add_argument("--plot", metavar="PNG", help="also draw the histograms")
    p.set_defaults(body=_stats)


def _validate(args: argparse.Namespace) -> int:
    from stk.data.validate import Checks, validate

    checks = Checks(
        audio=args.audio,
        needs=tuple(args.needs),
        vocab=load_vocab(args.vocab) if args.vocab else None,
        jobs=args.jobs,
    )
    skipped = SkipList(args.skip_bad)
    good = 0
    for path in args.manifest:

        def track(rows: Iterable[Example], title: str = path) -> Iterator[Example]:
            return progress(rows, title=f"validate {title}")

        rows, errors = validate(path, checks, track=track)
        for error in errors:
            print(error)
            skipped.add(error)
        good += len(rows)
        print(f"{path}: {len(rows)} good rows, {len(errors)} bad", file=sys.stderr)
    if args.skip_bad:
        skipped.write()
        return 0 if good else 1
    return 1 if len(skipped) else 0


def _check(args: argparse.Namespace) -> int:
    import torch

    from stk.config.run import RunConfig
    from stk.config.strict import build, load_mapping
    from stk.training.assemble import load_data
    from stk.training.distributed import Workers

    config = build(RunConfig, load_mapping(args.config, args.overrides), file=args.config)
    data = load_data(config, Workers(rank=0, world=1, device=torch.device("cpu")))
    for stream in (*data.streams, *data.validation):
        report = stream.report()
        print("\n".join([*report.lines(), *(report.rows if args.rows else ())]))
    if data.skipped is not None:
        for error in data.skipped.errors:
            print(f"skipped: {error}")
    return 0


def _stats(args: argparse.Namespace) -> int:
    from stk.data.statistics import collect, describe, plot

    vocab = load_vocab(args.vocab) if args.vocab else None
    manifests = [Manifest(path) for path in args.manifest]
    total = sum(len(manifest) for manifest in manifests)
    rows = progress(chain.from_iterable(manifests), total=total, title="count")
    found = collect(rows, vocab)
    print(describe(found))
    if args.plot:
        if not found.seconds and not found.units:
            raise StkError("nothing to plot")
        plot(found, args.plot)
        print(f"wrote {args.plot}", file=sys.stderr)
    return 0
