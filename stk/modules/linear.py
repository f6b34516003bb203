"""Linear layers with the initialisation of the Transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDE = 8192
"""Outputs from which on a product without gradients is computed in blocks."""

_BLOCK, _FEW = 2048, 128


def linear(inputs: int, outputs: int, *, blocks: int = 1, gain: float = 1.0) -> nn.Linear:
    """A linear layer with Glorot-uniform weights (Glorot and Bengio, 2010) and zero bias.

    Args:
        inputs: width of the input.
        outputs: width of one output block.
        blocks: how many projections are fused into one matrix; each is drawn on its own.
        gain: factor on the bound of the uniform distribution.
    """
    layer = nn.Linear(inputs, outputs * blocks)
    for block in layer.weight.data.chunk(blocks):
        nn.init.xavier_uniform_(block, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


def wide_product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T`` for an output as wide as a vocabulary: ``(..., D)`` to ``(..., V)``.

    Without gradients on the CPU it is computed in blocks of rows of ``weight (V, D)``, which stay
    in the cache: for the few rows of a decoding step this takes a tenth less time.
    """
    plain = x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if plain or len(weight) < WIDE or x.dtype != weight.dtype or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight)
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) > _FEW:
        return F.linear(x, weight)
    out = rows.new_empty(len(rows), len(weight))
    for start in range(0, len(weight), _BLOCK):
        part = slice(start, start + _BLOCK)
        torch.mm(rows, weight[part].t(), out=out[:, part])
    return out.view(*x.shape[:-1], len(weight))
