"""A second encoder over the states of a first: positions anew, then encoder layers."""

from __future__ import annotations

from torch import Tensor, nn

from stk.modules.dropout import dropout
from stk.modules.positions import positions
from stk.modules.rows import Rows
from stk.modules.transformer import EncoderStack, LayerShape


class SemanticEncoder(nn.Module):
    """Positions and encoder layers over states (Dong et al., 2021).

    Args:
        shape: of the layers.
        layers: how many.
        position_kind: ``sinusoidal`` or ``learned``.
        position_limit: bound of learned positions.
    """

    def __init__(
        self, shape: LayerShape, layers: int, position_kind: str, position_limit: int
    ) -> None:
        super().__init__()
        self.positions = positions(position_kind, shape.width, position_limit)
        self.dropout = shape.dropout
        self.stack = EncoderStack(shape, layers)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """``states (B, R, D)`` and lengths ``(B,)`` int64 to ``(B, R, D)``, zero in the padding."""
        rows = Rows(lengths, states.shape[1])
        x = states + self.positions(states.shape[1]).to(states.dtype)
        x, _ = self.stack(dropout(rows.pack(x), self.dropout, self.training), rows)
        return rows.clean(x)
