"""A semantic memory of fixed size, read out of a sequence by learned queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stk.modules.attention import CrossAttention
from stk.modules.dropout import add_dropout
from stk.modules.norm import LayerNorm
from stk.modules.rows import Rows
from stk.modules.transformer import FeedForward, LayerShape


class MemoryLayer(nn.Module):
    """Pre-norm attention of every slot to the sequence, then feed-forward.

    Slots are never keys: within a layer none sees another.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.attention = CrossAttention(shape.width, shape.heads, dropout=shape.attention_dropout)
        self.attention_norm = LayerNorm(shape.width)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_norm = LayerNorm(shape.width)

    def forward(self, x: Tensor, slots: Rows, states: Tensor, rows: Rows) -> Tensor:
        """Slots ``(B, M, D)`` over states as ``rows`` packs them: ``(B, M, D)``."""
        added = self.attention(self.attention_norm(x), slots, states, rows)
        x = add_dropout(x, added, self.dropout, self.training)
        added = self.feed_forward(self.feed_forward_norm(x))
        return add_dropout(x, added, self.dropout, self.training)


class SemanticMemory(nn.Module):
    """M vectors that stand for a sequence of any length (Chimera, Han et al., 2021).

    All layers attend to the same sequence, whose padding they never see; every slot starts as a
    vector of its own, drawn alike.

    Args:
        shape: of the layers, which are pre-norm whatever it says.
        layers: how many.
        slots: M.
    """

    def __init__(self, shape: LayerShape, layers: int, slots: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(slots, shape.width))
        nn.init.normal_(self.queries)
        self.layers = nn.ModuleList(MemoryLayer(shape) for _ in range(layers))
        self.norm = LayerNorm(shape.width)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read a sequence.

        Args:
            states: ``(B, T, D)``.
            lengths: ``(B,)`` int64.

        Returns:
            ``(B, M, D)``, and ``(B,)`` lengths, which are all M.
        """
        count, width = self.queries.shape
        full = torch.full_like(lengths, count)
        slots, rows = Rows(full, count), Rows(lengths, states.shape[1])
        packed = rows.pack(states)
        x = self.queries.to(states.dtype).expand(len(states), count, width)
        for layer in self.layers:
            x = layer(x, slots, packed, rows)
        return self.norm(x), full
