"""Token embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stk.modules.linear import wide_product

PAD = 0
"""Id of padding in every vocabulary; its vector is zero and stays so."""


class TokenEmbedding(nn.Module):
    """Token vectors, multiplied by ``sqrt(width)`` when read (Vaswani et al., 2017).

    Weights are drawn from N(0, 1 / width), so that what is read has unit variance and the same
    matrix serves as an output projection (Press and Wolf, 2017).

    Args:
        size: number of tokens.
        width: of a vector.
        scaled: whether to multiply by ``sqrt(width)``.
    """

    def __init__(self, size: int, width: int, *, scaled: bool = True) -> None:
        super().__init__()
        self.scale = width**0.5 if scaled else 1.0
        self.weight = nn.Parameter(torch.empty(size, width))
        nn.init.normal_(self.weight, std=width**-0.5)
        nn.init.zeros_(self.weight.data[PAD])

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 ids ``(...)`` to ``(..., width)``."""
        return F.embedding(tokens, self.weight, padding_idx=PAD) * self.scale

    def project(self, states: Tensor) -> Tensor:
        """Logits ``(..., size)`` of states ``(..., width)`` against every token's vector."""
        return wide_product(states, self.weight)
