"""What run.sh has to know of a run's configuration.

    python facts.py CONF --processes N accumulate    micro-steps of each process in an update
    python facts.py CONF field                       tgt_text or src_text: what it writes
    python facts.py CONF limits --updates N --minutes M --averaged K
                                                     overrides for a shorter run (0: as it is)

A configuration states its global batch: ``training.accumulate`` times the bounds of one batch.
N processes divide the micro-steps among themselves. What that comes to is printed on standard
error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stk.cli.common import run
from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.errors import StkError


def accumulate(config: RunConfig, processes: int, file: Path) -> tuple[int, str]:
    """Micro-steps of each process, and a sentence about the global batch.

    Raises:
        StkError: more processes than micro-steps.
    """
    steps = config.training.accumulate
    bounds = config.streams[0].batch
    size, unit = (
        (bounds.max_frames, "frames") if bounds.max_frames else (bounds.max_tokens, "tokens")
    )
    if size is None:
        raise StkError("no bound of a batch in frames or tokens", file=file)
    if processes > steps:
        raise StkError(
            f"the global batch is {steps} batches, too few for {processes} processes",
            file=file,
            mend=f"--nproc {steps}, or smaller batches and a larger training.accumulate",
        )
    each = -(-steps // processes)
    sentence = (
        f"global batch: {size * each * processes} {unit} = {size} x {processes} processes "
        f"x {each} micro-steps"
    )
    if each * processes != steps:
        sentence += f"; the configuration states {size * steps}, which {processes} do not divide"
    return each, sentence


def limits(config: RunConfig, updates: int, minutes: int, averaged: int) -> list[str]:
    """Overrides that end a run sooner, its rate fallen and ``averaged`` checkpoints written.

    Args:
        config: of the run.
        updates: most updates; 0: the configuration's.
        minutes: longest time; 0: the configuration's.
        averaged: checkpoints kept at the end.
    """
    found = [f"checkpoint.keep_last={averaged}"]
    if minutes:
        found.append(f"training.max_minutes={minutes}")
    if updates:
        schedule = config.schedule
        warmup = min(schedule.warmup, updates // 4) or 1
        found += [f"training.max_updates={updates}", f"schedule.warmup={warmup}"]
        found.append(f"checkpoint.every={min(config.checkpoint.every, -(-updates // averaged))}")
        found.append(f"validation.every={min(config.validation.every, updates)}")
        if schedule.total is not None:
            found.append(f"schedule.total={max(updates, 2)}")
    return found


def main(argv: list[str]) -> None:
    """Parse the options and print one fact."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("conf", type=Path)
    parser.add_argument("fact", choices=("accumulate", "field", "limits"))
    parser.add_argument("--processes", type=int, default=1)
    for name in ("updates", "minutes", "averaged"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args(argv)
    config = build(RunConfig, load_mapping(options.conf), file=options.conf)
    if options.fact == "field":
        print(config.streams[0].objective.get("target", "tgt_text"))
        return
    if options.fact == "limits":
        print(*limits(config, options.updates, options.minutes, options.averaged or 1))
        return
    each, sentence = accumulate(config, options.processes, options.conf)
    print(f"{options.conf}: {sentence}", file=sys.stderr)
    print(each)


if __name__ == "__main__":
    sys.exit(run(main))
