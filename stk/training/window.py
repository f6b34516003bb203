"""The micro-steps of one update: counted first, then one backward pass each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stk.data.loader import MicroBatch
from stk.objectives.base import Context, Objective, Sum
from stk.training.distributed import Workers, gradient_sync


def count_window(
    window: Sequence[MicroBatch],
    objectives: Mapping[str, Objective],
    workers: Workers,
    extra: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Counts of every stream, summed over the window and all processes, before any forward.

    Args:
        window: the micro-batches of this process, still on the CPU.
        objectives: stream name -> objective.
        workers: the processes; all call this, with windows of the same streams.
        extra: further numbers to sum on the way.

    Returns:
        ``stream/count`` -> sum, and the sums of ``extra``.
    """
    counts: dict[str, float] = dict(extra or {})
    for micro in window:
        for name, count in objectives[micro.stream].counts(micro.batch).items():
            key = f"{micro.stream}/{name}"
            counts[key] = counts.get(key, 0.0) + count
    return workers.sum(counts)


def totals_of(counts: Mapping[str, float]) -> dict[str, float]:
    """What losses are divided by: counts of one name, added up over streams.

    A token thus weighs the same whichever stream and micro-batch it is in.
    """
    totals: dict[str, float] = {}
    for key, count in counts.items():
        name = key.rpartition("/")[2]
        totals[name] = totals.get(name, 0.0) + count
    return totals


@dataclass
class Losses:
    """Named loss sums of this process, and their counts over all processes, as they add up.

    Attributes:
        sums: ``stream/name`` -> sum (0-dim float32 tensors add up on the device).
        counts: ``stream/count`` -> count.
    """

    sums: dict[str, Sum] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, stream: str, sums: Mapping[str, Sum]) -> None:
        """Take in one micro-step's sums."""
        for name, item in sums.items():
            key = f"{stream}/{name}"
            value = item.value.detach().float()
            if key in self.sums:
                value = value + self.sums[key].value
            self.sums[key] = Sum(value, item.per, item.weight)

    def count(self, counts: Mapping[str, float]) -> None:
        """Take in counts."""
        for key, value in counts.items():
            self.counts[key] = self.counts.get(key, 0.0) + value

    def merge(self, other: Losses) -> None:
        """Take in all of another's."""
        for key, item in other.sums.items():
            stream, _, name = key.rpartition("/")
            self.add(stream, {name: item})
        self.count(other.counts)

    def gathered(self, workers: Workers, *, counts: bool) -> Losses:
        """The sums of all processes (any of which may lack some); every process calls it.

        Args:
            workers: the processes.
            counts: whether each process counted its own share; otherwise counts are global
                already and stay as they are.
        """
        plain = {key: (float(s.value), s.per, s.weight) for key, s in self.sums.items()}
        total = Losses() if counts else Losses(counts=dict(self.counts))
        for sums, counted in workers.gather((plain, self.counts)):
            for key, (value, per, weight) in sums.items():
                before = float(total.sums[key].value) if key in total.sums else 0.0
                number = torch.tensor(before + value, dtype=torch.float64)
                total.sums[key] = Sum(number, per, weight)
            if counts:
                total.count(counted)
        return total

    def means(self) -> dict[str, float]:
        """Every sum divided by its stream's count (by 1 where nothing was counted)."""
        return {
            key: float(item.value)
            / (self.counts.get(f"{key.rpartition('/')[0]}/{item.per}", 0.0) or 1.0)
            for key, item in self.sums.items()
        }


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The precision of forward passes: ``auto`` is bf16 on a GPU that has it, fp32 elsewhere."""
    bf16 = precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def backward_window(
    module: nn.Module,
    window: Sequence[MicroBatch],
    counts: Mapping[str, float],
    context: Context,
    workers: Workers,
    precision: str,
) -> tuple[Tensor, Losses]:
    """Add up the gradient of the loss over the window and all processes.

    DDP and FSDP take the mean of gradients over processes, so each loss is multiplied by their
    number; gradients travel once, in the last micro-step.

    Args:
        module: the (wrapped) objective module, see :mod:`stk.objectives.combine`.
        window: at least one micro-batch.
        counts: of :func:`count_window`.
        context: handed to the objectives.
        workers: the processes.
        precision: of the configuration.

    Returns:
        This process's share of the loss (0-dim; the shares sum to the loss), and its sums.
    """
    totals = totals_of(counts)
    share = torch.zeros((), device=workers.device)
    losses = Losses(counts=dict(counts))
    for i, micro in enumerate(window):
        with gradient_sync(module, i == len(window) - 1):
            batch = micro.batch.to(workers.device)
            with autocast(workers.device, precision):
                loss, sums = module(micro.stream, batch, context, totals)
            (loss * workers.world).backward()
        share += loss.detach()
        losses.add(micro.stream, sums)
    return share, losses
