"""A second encoder over the states of a first: positions anew, then encoder layers."""

from __future__ import annotations

from torch import Tensor, nn

from stk.modules.dropout import dropout
from stk.modules.norm import LayerNorm
from stk.modules.positions import positions
from stk.modules.rows import Rows
from stk.modules.transformer import EncoderStack, LayerShape


class SemanticEncoder(nn.Module):
    """Positions and encoder layers over states (Dong et al., 2021).

    Args:
        shape: of the layers.
        layers: how many.
        position_kind: ``sinusoidal``, ``sinusoidal_exact`` or ``learned``.
        position_limit: bound of learned positions.
        normalize: whether the sum of states and positions is normalised (BART).
    """

    def __init__(
        self,
        shape: LayerShape,
        layers: int,
        position_kind: str,
        position_limit: int,
        *,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        self.positions = positions(position_kind, shape.width, position_limit)
        self.embedding_norm = LayerNorm(shape.width) if normalize else None
        self.dropout = shape.dropout
        self.stack = EncoderStack(shape, layers)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """``states (B, R, D)`` and lengths ``(B,)`` int64 to ``(B, R, D)``, zero in the padding."""
        rows = Rows(lengths, states.shape[1])
        x = states + self.positions(states.shape[1]).to(states.dtype)
        x = x if self.embedding_norm is None else self.embedding_norm(x)
        x, _ = self.stack(dropout(rows.pack(x), self.dropout, self.training), rows)
        return rows.clean(x)
