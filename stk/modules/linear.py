"""Linear layers with the initialisation of the Transformer."""

from __future__ import annotations

from torch import nn


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
