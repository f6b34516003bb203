"""The one place where loss sums are divided by their counts, weighted and added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stk.objectives.base import Context, Objective, Sum


class ObjectiveModule(nn.Module):
    """A model and the objectives of a run's streams as one module, which DDP or FSDP wraps.

    Args:
        model: what trains; its parameters are this module's, prefixed ``model.``.
        objectives: stream name -> objective.
    """

    def __init__(self, model: nn.Module, objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = dict(objectives)

    def forward(
        self, stream: str, batch: Any, context: Context, totals: Mapping[str, float]
    ) -> tuple[Tensor, dict[str, Sum]]:
        """The share of one micro-batch in the loss of an update.

        Args:
            stream: whose objective to run.
            batch: what that objective collated.
            context: step, scalars, helpers.
            totals: the objective's counts, summed over the accumulation window and all ranks.

        Returns:
            The loss ``sum_i weight_i * sum_i / totals[per_i]`` (0-dim), and the sums by name,
            detached, for the log.

        Raises:
            ValueError: a sum is per a count that ``totals`` lacks.
        """
        sums = self.objectives[stream].forward(self.model, batch, context)
        # A scheduled weight may have come to 0: then this micro-batch moves nothing.
        return combine(sums, totals, idle=bool(context.scalars)), {
            name: replace(item, value=item.value.detach()) for name, item in sums.items()
        }


def combine(sums: Mapping[str, Sum], totals: Mapping[str, float], *, idle: bool = False) -> Tensor:
    """``sum_i weight_i * sum_i / totals[per_i]`` over all sums whose weight is not zero.

    A total of zero means that nothing was counted anywhere; the sum is empty, and is left
    undivided.

    Args:
        sums: of one micro-batch.
        totals: counts by which they are divided.
        idle: whether no sum need have a weight; the result is then 0, with gradients of 0.

    Raises:
        ValueError: a count is missing from ``totals``, or no sum has a weight (unless ``idle``).
    """
    parts = []
    for name, item in sums.items():
        if item.weight == 0.0:
            continue
        if item.per not in totals:
            raise ValueError(f"{name} is per {item.per!r}, which is not among {sorted(totals)}")
        parts.append(item.value * (item.weight / (totals[item.per] or 1.0)))
    if not parts and idle:
        return torch.stack([item.value * 0.0 for item in sums.values()]).sum()
    if not parts:
        raise ValueError(f"none of {sorted(sums)} has a weight: there is nothing to train")
    return torch.stack(parts).sum()
