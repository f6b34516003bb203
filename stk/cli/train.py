"""``stk-train``: train a model as a YAML file says, or go on where a run was stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stk.cli.common import progress, run
from stk.cli.judge import generator, judge
from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping, to_yaml
from stk.training.loop import train


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-train``."""
    p = argparse.ArgumentParser(
        prog="stk-train",
        description=__doc__,
        epilog="An output directory that holds checkpoints of the same configuration is gone on "
        "with. Several processes: torchrun --nproc-per-node N -m stk.cli.train CONFIG ...",
    )
    p.add_argument("config", metavar="CONFIG", help="YAML file of the run")
    p.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change: optim.lr=1e-4 ..."
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run although settings differ from those it was started with; the new "
        "ones hold from here on",
    )
    p.add_argument(
        "--print-config", action="store_true", help="print the resolved configuration and stop"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 128 plus its number after a signal."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_intermixed_args(argv)
    file = Path(args.config)
    config = build(RunConfig, load_mapping(file, args.overrides), file=file)
    if args.print_config:
        print(to_yaml(config), end="")
        return 0
    result = train(
        config,
        resume=args.resume,
        validate_decoded=judge(config),
        generate=generator(config),
        track=lambda rows, name: progress(rows, title=f"look at {name}", brief=True),
    )
    return 128 + result.signal if result.signal else 0


if __name__ == "__main__":
    sys.exit(main())
