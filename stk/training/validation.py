"""How good the model is now: losses over the validation streams, and decoded scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from stk.data.loader import one_pass
from stk.data.stream import Stream
from stk.objectives.base import Context
from stk.objectives.combine import ObjectiveModule, combine
from stk.training.distributed import Workers
from stk.training.window import Losses, autocast, totals_of

Scorer = Callable[[nn.Module, Workers], Mapping[str, float]]
"""Decodes with a model in eval mode, every process its share, and returns figures (``bleu``,
``chrf``, ``wer``), the same in every process. Training is handed one; it never decodes itself."""

HIGHER_IS_BETTER = {"loss": False, "wer": False, "bleu": True, "chrf": True}


@torch.no_grad()
def validate_losses(
    model: nn.Module,
    streams: Sequence[Stream],
    context: Context,
    workers: Workers,
    precision: str,
    loaders: int,
) -> dict[str, float]:
    """One pass over the validation streams, shared by all processes.

    Args:
        model: in eval mode, neither wrapped nor cut into shares.
        streams: collated without augmentation.
        context: handed to the objectives.
        workers: the processes.
        precision: of the configuration.
        loaders: loading processes beside this one.

    Returns:
        ``loss`` over all streams together, divided as in training, and ``stream/name`` for every
        named loss and metric; of streams with ``group_by`` also ``stream/group/name``, such as
        ``dev/de/nll``. Beside every ``nll`` per token stands its ``perplexity``, ``exp(nll)``.
    """
    module = ObjectiveModule(model, {stream.name: stream.objective for stream in streams})
    losses, parts = Losses(), Losses()
    for stream in streams:
        passed = one_pass(
            stream,
            rank=workers.rank,
            world=workers.world,
            workers=loaders,
            pin_memory=workers.device.type == "cuda",
        )
        for micro in passed:
            counts = stream.objective.counts(micro.batch)
            with autocast(workers.device, precision):
                _, sums = module(
                    micro.stream, micro.batch.to(workers.device), context, totals_of(counts)
                )
            losses.add(stream.name, sums)
            losses.count({f"{stream.name}/{name}": count for name, count in counts.items()})
            if micro.info.group:
                part = f"{stream.name}/{micro.info.group}"
                parts.add(part, sums)
                parts.count({f"{part}/{name}": count for name, count in counts.items()})
    total = losses.gathered(workers, counts=True)
    means = total.means() | parts.gathered(workers, counts=True).means()
    return {
        "loss": float(combine(total.sums, totals_of(total.counts))),
        **means,
        **_perplexities(means),
    }


def _perplexities(means: Mapping[str, float]) -> dict[str, float]:
    """``.../perplexity`` for every ``.../nll``; infinite where it is too large for a float."""
    found = {}
    for key, value in means.items():
        stream, _, name = key.rpartition("/")
        if name == "nll":
            found[f"{stream}/perplexity"] = math.exp(value) if value < 700 else math.inf
    return found
