"""``stk-average``: write the mean of several checkpoints as a checkpoint of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stk.cli.common import run
from stk.config.run import CheckpointConfig
from stk.errors import StkError
from stk.training.average import average_checkpoints
from stk.training.checkpoint import resolve_checkpoint
from stk.training.keep import Keeper


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-average``."""
    p = argparse.ArgumentParser(prog="stk-average", description=__doc__)
    p.add_argument(
        "checkpoints",
        nargs="+",
        metavar="DIR",
        help="checkpoints; or, with --last, one run's output directory",
    )
    p.add_argument("--output", required=True, metavar="DIR", help="checkpoint to write")
    p.add_argument("--last", type=int, metavar="N", help="the N newest checkpoints of the run")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    if args.last is None:
        paths = [resolve_checkpoint(path) for path in args.checkpoints]
    else:
        paths = _newest(args.checkpoints, args.last)
    average_checkpoints(paths, Path(args.output))
    print(f"{args.output}: mean of {', '.join(path.name for path in paths)}", file=sys.stderr)
    return 0


def _newest(outputs: Sequence[str], count: int) -> list[Path]:
    if len(outputs) != 1 or count < 1:
        raise StkError("--last takes a number above 0 and one run's output directory")
    keeper = Keeper(Path(outputs[0]), CheckpointConfig())
    updates = keeper.updates()
    if len(updates) < count:
        raise StkError(
            f"{len(updates)} checkpoints are there, not {count}",
            file=outputs[0],
            mend="raise checkpoint.keep_last, or average fewer",
        )
    return [keeper.path(update) for update in updates[-count:]]


if __name__ == "__main__":
    sys.exit(main())
