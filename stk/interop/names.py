"""Names of weights in two libraries, side by side."""

from __future__ import annotations

Names = tuple[str, tuple[str, ...]]
"""stk's name, and theirs, whose tensors follow one another along the first axis."""

KINDS = ("weight", "bias")


def pair(mine: str, theirs: str) -> list[Names]:
    """Weight and bias of one module."""
    return [(f"{mine}.{kind}", (f"{theirs}.{kind}",)) for kind in KINDS]


def fused(mine: str, theirs: tuple[str, ...]) -> list[Names]:
    """Weight and bias of one linear layer here that are several ones there."""
    return [(f"{mine}.{kind}", tuple(f"{name}.{kind}" for name in theirs)) for kind in KINDS]
