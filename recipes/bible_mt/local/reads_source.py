"""Print how much models read what they translate: the loss a token of what is to be written, given
the source, and given the source of another row instead. One that does not read it loses nothing."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.data.batch import Source
from stk.data.stream import Stream
from stk.errors import StkError
from stk.objectives.base import CollateContext, Context
from stk.objectives.registry import build_objective
from stk.training.checkpoint import load_model
from stk.training.distributed import Workers
from stk.training.validation import validate_losses

ALONE = Workers(rank=0, world=1, device=torch.device("cpu"))


def of_another_row(source: Source) -> Source:
    """Each row's source is that of the row before it; the first row's is the last one's."""
    changed: dict[str, Any] = {
        name: value.roll(1, 0)
        for name, value in ((f.name, getattr(source, f.name)) for f in dataclasses.fields(source))
        if value is not None and name != "target_languages"
    }
    return dataclasses.replace(source, **changed)


def losses(path: Path) -> dict[str, float]:
    """Mean ``nll`` a token over a run's validation streams, nats: ``own`` source, ``other`` source.

    Raises:
        StkError: no checkpoint, or a model whose validation reports no such loss.
    """
    loaded = load_model(path)
    model: Any = loaded.model
    context = CollateContext(vocabs=loaded.vocabs, frontend=loaded.frontend, training=False)
    streams = [
        Stream(part, build_objective(part.objective), context)
        for part in loaded.config.validation.streams
    ]
    if not streams:
        raise StkError("the run has no validation streams", file=path, mend="name another")
    key = f"{streams[0].name}/nll"
    encode = model.encode
    found = {}
    for name in ("own", "other"):
        if name == "other":
            model.encode = lambda source, **more: encode(of_another_row(source), **more)
        figures = validate_losses(model, streams, Context(), ALONE, "fp32", 0)
        if key not in figures:
            raise StkError("validation has no loss a token", file=path, mend="name a translator")
        found[name] = figures[key]
    return found


def main(argv: list[str]) -> None:
    """Parse the options, print and write a line a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    options = parser.parse_args(argv)
    found = {path.name: losses(path) for path in options.checkpoint}
    for name, figures in found.items():
        print(f"{name}: {figures['own']:.3f}, of another row {figures['other']:.3f}")
    write_text(options.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run(main))
