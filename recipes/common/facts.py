"""What run.sh has to know of a run's configuration.

    python facts.py CONF --processes N accumulate    micro-steps of each process in an update
    python facts.py CONF... field                    what each writes: tgt_text, src_text or none
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
from stk.config.run import RunConfig, StreamConfig
from stk.config.strict import build, load_mapping
from stk.errors import StkError

STEPS = ("contrastive", "ctc", "masked_lm", "causal_lm")
"""Objectives whose models translate nothing; nor does COSTT's first stage, which reads nothing."""


def bound(stream: StreamConfig, file: Path) -> tuple[int, str]:
    """What bounds a stream's batch, and in which unit.

    Raises:
        StkError: neither frames nor tokens do.
    """
    bounds = stream.batch
    for size, unit in ((bounds.max_frames, "frames"), (bounds.max_tokens, "tokens")):
        if size is not None:
            return size, unit
    raise StkError(f"stream {stream.name}: no bound of a batch in frames or tokens", file=file)


def accumulate(config: RunConfig, processes: int, file: Path) -> tuple[int, str]:
    """Micro-steps of each process, and a sentence about the global batch.

    Where streams have different bounds, those of a batch of each are named.

    Raises:
        StkError: more processes than micro-steps.
    """
    steps = config.training.accumulate
    bounds = list(dict.fromkeys(bound(stream, file) for stream in config.streams))
    if processes > steps:
        raise StkError(
            f"the global batch is {steps} batches, too few for {processes} processes",
            file=file,
            mend=f"--nproc {steps}, or smaller batches and a larger training.accumulate",
        )
    each = -(-steps // processes)
    whole = " or ".join(f"{size * each * processes} {unit}" for size, unit in bounds)
    parts = " or ".join(str(size) for size, _ in bounds)
    sentence = f"global batch: {whole} = {parts} x {processes} processes x {each} micro-steps"
    if each * processes != steps:
        stated = " or ".join(str(size * steps) for size, _ in bounds)
        sentence += f"; the configuration states {stated}, which {processes} do not divide"
    return each, sentence


def field(config: RunConfig) -> str:
    """The text that a run's model writes when it is decoded, or none for a step to other runs."""
    objective = config.streams[0].objective
    silent = objective["name"] == "consecutive" and objective.get("source", "audio") != "audio"
    if objective["name"] in STEPS or silent:
        return "none"
    return str(objective.get("target", "tgt_text"))


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
    parser.add_argument("conf", type=Path, nargs="+")
    parser.add_argument("fact", choices=("accumulate", "field", "limits"))
    parser.add_argument("--processes", type=int, default=1)
    for name in ("updates", "minutes", "averaged"):
        parser.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args(argv)
    configs = [build(RunConfig, load_mapping(path), file=path) for path in options.conf]
    if options.fact == "field":
        print(*map(field, configs), sep="\n")
        return
    if options.fact == "limits":
        print(*limits(configs[0], options.updates, options.minutes, options.averaged or 1))
        return
    each, sentence = accumulate(configs[0], options.processes, options.conf[0])
    print(f"{options.conf[0]}: {sentence}", file=sys.stderr)
    print(each)


if __name__ == "__main__":
    sys.exit(run(main))
