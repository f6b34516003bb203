"""The best of many scores, found by way of the best blocks."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 128


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` highest of every row, in falling order, and where they stand.

    On the CPU the maximum of every block of :data:`BLOCK` scores is taken first, which is one fast
    pass: the ``count`` highest scores lie in the ``count`` blocks of the highest maxima, and only
    those are looked through.

    Args:
        scores: ``(..., V)``.
        count: at most V.

    Returns:
        Values and int64 places, both ``(..., count)``, as ``scores.topk(count)`` gives them;
        which of equal scores are taken is not defined.
    """
    blocks = scores.shape[-1] // BLOCK
    if scores.device.type != "cpu" or blocks < 4 * count:
        found = scores.topk(count, dim=-1)
        return found.values, found.indices
    first = blocks * BLOCK
    parted = scores[..., :first].unflatten(-1, (blocks, BLOCK))
    chosen = parted.amax(-1).topk(count, dim=-1).indices
    inside = parted.gather(-2, chosen[..., None].expand(*chosen.shape, BLOCK)).flatten(-2)
    values, place = torch.cat([inside, scores[..., first:]], dim=-1).topk(count, dim=-1)
    behind = place - count * BLOCK  # places in what no block covers, from 0 on
    block = chosen.gather(-1, (place // BLOCK).clamp(max=count - 1))
    return values, torch.where(behind < 0, block * BLOCK + place % BLOCK, first + behind)
