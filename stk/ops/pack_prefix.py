"""Gathers scattered real positions to the front, so that prefix attention can serve them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PackPrefixOutput(NamedTuple):
    """What :func:`pack_prefix` returns."""

    states: Tensor
    """``(B, T, ...)``: the real positions in their order, then the others in theirs."""
    lengths: Tensor
    """``(B,)`` int64: how many positions of each row are real."""
    order: Tensor
    """``(B, T)`` int64: ``order[b, i]`` is where packed position ``i`` came from."""


def pack_prefix(states: Tensor, real: Tensor) -> PackPrefixOutput:
    """Moves the real positions of each row to its front, keeping their order.

    :func:`stk.ops.attention` lets a query see a prefix of the keys. Where the positions that may
    be attended are scattered (an encoder that hides its mask tokens as MASS does, Song et al.
    2019; segments that are padded one by one and then joined), pack the states first, after
    position embeddings were added: attention does not depend on the order of keys, and packed
    queries come back in place through :func:`unpack_prefix`. Nothing is lost: the rows of
    ``states`` are permuted. Without host synchronisation, and differentiable.

    Args:
        states: ``(B, T, ...)``, any dtype.
        real: ``(B, T)`` boolean, True = real (may be attended).

    Raises:
        ValueError: ``real`` is not a boolean tensor with the first two sizes of ``states``.
    """
    if real.dtype != torch.bool or real.dim() != 2 or real.shape != states.shape[:2]:
        raise ValueError(
            f"real: expected boolean of shape {tuple(states.shape[:2])}, got "
            f"{real.dtype} of shape {tuple(real.shape)}"
        )
    lengths = real.sum(dim=1)
    place = torch.where(real, real.cumsum(1), lengths[:, None] + (~real).cumsum(1)) - 1
    positions = torch.arange(real.shape[1], device=real.device).expand_as(place)
    order = torch.empty_like(place).scatter_(1, place, positions)
    return PackPrefixOutput(_take(states, order), lengths, order)


def unpack_prefix(states: Tensor, order: Tensor) -> Tensor:
    """The inverse of :func:`pack_prefix`: puts packed positions back where they came from.

    Args:
        states: ``(B, T, ...)`` packed states.
        order: ``(B, T)`` int64, as :func:`pack_prefix` returned it.

    Returns:
        ``(B, T, ...)`` in the original order.
    """
    positions = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return _take(states, torch.empty_like(order).scatter_(1, order, positions))


def _take(states: Tensor, index: Tensor) -> Tensor:
    tail = (1,) * (states.dim() - 2)
    return states.gather(1, index.view(*index.shape, *tail).expand_as(states))
