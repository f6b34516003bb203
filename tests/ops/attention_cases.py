"""What the tests of attention share."""

from __future__ import annotations

import torch
from torch import Tensor

RULES = ("none", "keys", "causal", "chunks", "any")


def counts(
    rule: str, batch: int, queries: int, keys: int, generator: torch.Generator
) -> Tensor | None:
    """One ``visible`` of each kind."""
    if rule == "none":
        return None
    if rule == "keys":
        return torch.randint(0, keys + 1, (batch,), generator=generator)
    if rule == "causal":
        return torch.arange(1, queries + 1)[None].clamp(max=keys)
    if rule == "chunks":
        return ((torch.arange(queries) // 4 + 1) * 4)[None].clamp(max=keys).to(torch.int32)
    return torch.randint(0, keys + 1, (batch, queries), generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(
    seed: int, batch: int, heads: int, queries: int, keys: int, width: int, value_width: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    generator = seeded(seed)

    def draw(count: int, size: int) -> Tensor:
        # Heads split off a model dimension: the strides that a Transformer block hands over.
        flat = torch.randn(batch, count, heads, size, generator=generator).to(dtype)
        return flat.transpose(1, 2).requires_grad_()

    return draw(queries, width), draw(keys, width), draw(keys, value_width)
