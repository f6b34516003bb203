"""Dropout that costs less than the matrix products around it, on the CPU too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each element with probability ``p`` and scale the rest (Srivastava et al., 2014).

    PyTorch's CPU dropout draws a double per element from a scalar generator, which takes longer
    than a linear layer over the same rows. Here one 64-bit draw of PyTorch's default generator
    decides four elements, so ``p`` is rounded to a multiple of 1/65536; the scale fits the rounded
    value, and the expectation is exact.

    Args:
        x: of any shape and floating dtype.
        p: probability in [0, 1).
        training: without it, ``x`` comes back as it is.
    """
    if p == 0.0 or not training:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p, training)
    return x * keep_mask(x, p)


def keep_mask(x: Tensor, p: float) -> Tensor:
    """Factors for every element of ``x``: 0, or one over the probability of being kept."""
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    count = x.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    drawn = words.view(torch.int16)[:count].to(torch.promote_types(x.dtype, torch.float32))
    scale = _LEVELS / (_LEVELS - dropped)
    # Whole numbers, of which those to be kept are 1 or more: scaled and cut at the scale, they
    # are the factors, in arithmetic that is vectorised (comparisons with a float are not).
    drawn.add_(_LEVELS // 2 + 1 - dropped).mul_(scale).clamp_(0.0, scale)
    return drawn.view(x.shape).to(x.dtype)
