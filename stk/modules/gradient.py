"""Scaling a gradient on its way back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """``x`` as it is, whose gradient is multiplied by ``scale`` (1: nothing is done)."""
    if scale == 1.0:
        return x
    scaled: Tensor = _ScaleGradient.apply(x, scale)
    return scaled


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.scale, None
