"""Dropout that costs less than the matrix products around it, on the CPU too."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stk.ops._dropout import LEVELS, dropout_factors
from stk.ops._dropout import relu_dropout_ as relu_dropout_kernel_
from stk.ops._library import kernels_on


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability ``p`` and scale the rest (Srivastava et al., 2014).

    PyTorch's CPU dropout draws a double per element from a scalar generator, which takes longer
    than a linear layer over the same rows. Here 16 bits decide an element, so ``p`` is rounded to a
    multiple of 1/65536; the scale fits the rounded value, and the expectation is exact. The bits
    come from a counter-based generator that PyTorch's seeds, or, without stk's kernels, from
    PyTorch's itself, 64 at a time.

    Args:
        x: of any shape and floating dtype.
        p: probability in [0, 1).
        training: without it, ``x`` comes back as it is.
    """
    if p == 0.0 or not training:
        return x
    if _native(x):
        return F.dropout(x, p, training)
    return x * keep_mask(x, p)


def add_dropout(x: Tensor, added: Tensor, p: float, training: bool) -> Tensor:
    """``x + dropout(added)`` in one pass over both, which have one shape; else as above."""
    if p == 0.0 or not training or _native(x) or x.dtype != added.dtype:
        return x + dropout(added, p, training)
    out: Tensor = _AddDropout.apply(x, added, p)
    return out


def relu_dropout_(x: Tensor, p: float) -> float:
    """``dropout(relu(x))`` in the place of ``x``, in one pass with stk's kernels; no gradient.

    Args:
        x: on the CPU, contiguous, of any floating dtype.
        p: probability in [0, 1).

    Returns:
        By what the values kept were multiplied, as the dtype of ``x`` has it.
    """
    dropped = _dropped(p)
    if not dropped:
        x.relu_()
    elif x.dtype == torch.float32 and kernels_on(x.device):
        relu_dropout_kernel_(x, dropped)
    else:
        x.clamp_min_(0.0).mul_(keep_mask(x, p))
    return float(torch.tensor(LEVELS / (LEVELS - dropped), dtype=x.dtype))


def _native(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def _dropped(p: float) -> int:
    """Of 65536 equally likely values, how many drop an element."""
    return min(round(p * LEVELS), LEVELS - 1)


def keep_mask(x: Tensor, p: float) -> Tensor:
    """Factors for every element of ``x``: 0, or one over the probability of being kept."""
    dropped, count = _dropped(p), x.numel()
    if kernels_on(x.device):
        factors = dropout_factors(x, dropped)
        if x.dtype == torch.float64:  # whose scale fp32 does not hold
            return (factors > 0).to(x.dtype) * (LEVELS / (LEVELS - dropped))
        return factors.to(x.dtype)
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    drawn = words.view(torch.int16)[:count].to(torch.promote_types(x.dtype, torch.float32))
    scale = LEVELS / (LEVELS - dropped)
    # Whole numbers, of which those to be kept are 1 or more: scaled and cut at the scale, they
    # are the factors, in arithmetic that is vectorised (comparisons with a float are not).
    drawn.add_(LEVELS // 2 + 1 - dropped).mul_(scale).clamp_(0.0, scale)
    return drawn.view(x.shape).to(x.dtype)


class _AddDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, added: Tensor, p: float) -> Tensor:
        keep = keep_mask(added, p)
        ctx.save_for_backward(keep)
        return torch.addcmul(x, added, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (keep,) = ctx.saved_tensors
        return grad, grad * keep, None
