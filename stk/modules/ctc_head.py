"""The linear layer that reads CTC scores off encoder states."""

from __future__ import annotations

from torch import Tensor, nn

from stk.modules.linear import linear
from stk.modules.norm import LayerNorm


class CtcHead(nn.Module):
    """Scores of every token and the blank (id 0) for each encoder state (Graves et al., 2006).

    Args:
        width: of the states.
        size: of the vocabulary, blank included.
        normalize: whether states are normalised first; the inner layers of a pre-norm stack,
            whose residual stream is bare, need it.
    """

    def __init__(self, width: int, size: int, *, normalize: bool) -> None:
        super().__init__()
        self.norm = LayerNorm(width) if normalize else None
        self.output = linear(width, size)

    def forward(self, states: Tensor) -> Tensor:
        """``(..., D)`` to logits ``(..., V)``."""
        return self.output(states if self.norm is None else self.norm(states))
