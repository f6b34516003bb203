"""Dropout from the counter-based generator: drawn by vectors and threads, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from stk.ops._library import register_fake
from stk.ops._random import seed_pair

LEVELS = 1 << 16


def dropout_factors(
    like: Tensor, dropped: int, *, seed: int | Tensor | None = None, offset: int | None = None
) -> Tensor:
    """0 with probability ``dropped / 65536``, else its complement's inverse; kernels alone.

    Args:
        like: on the CPU, of the wanted shape and any dtype.
        dropped: in ``0..65535``.
        seed: a number or a 0-dim int64 tensor; None draws one from torch's default generator.
        offset: of the stream of random numbers; None is 0.

    Returns:
        fp32, of the shape of ``like``.

    Raises:
        ValueError: ``dropped`` outside its range.
    """
    drawn, stream = seed_pair(seed, offset, like.device)
    factors: Tensor = torch.ops.stk.dropout_factors(like.detach(), drawn, stream, dropped=dropped)
    return factors


def relu_dropout_(
    x: Tensor, dropped: int, *, seed: int | Tensor | None = None, offset: int | None = None
) -> Tensor:
    """``relu(x) * dropout_factors(x, dropped)`` in the place of ``x``, without a gradient.

    Args:
        x: fp32 on the CPU, contiguous.
        dropped: as above, like ``seed`` and ``offset``.

    Returns:
        ``x``.

    Raises:
        ValueError: ``x`` of another dtype or with gaps, ``dropped`` outside its range.
    """
    drawn, stream = seed_pair(seed, offset, x.device)
    torch.ops.stk.relu_dropout_(x, drawn, stream, dropped=dropped)
    return x


@register_fake("dropout_factors")
def _fake(like: Tensor, seed: Tensor, offset: Tensor, *, dropped: int) -> Tensor:
    return torch.empty(like.shape, dtype=torch.float32, device=like.device)
