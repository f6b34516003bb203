"""How many states come out of a chain of convolutions, known before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

N = TypeVar("N", int, Tensor)


@dataclass(frozen=True)
class LengthFormula:
    """Output length of a chain of convolutions over time, as a function of input length.

    One layer with (kernel k, stride s, padding p on both sides) turns n into
    ``floor((n + 2 p - k) / s) + 1``, and nothing into nothing. The formula holds no tensors, so
    worker processes can use it to judge an example before the model ever sees it.

    Attributes:
        layers: ``(kernel, stride, padding)`` of every convolution, in order; empty: the identity.
    """

    layers: tuple[tuple[int, int, int], ...] = ()

    def __call__(self, length: N) -> N:
        """Apply to an integer or to int64 lengths of any shape; results are never below 0."""
        for kernel, stride, padding in self.layers:
            if isinstance(length, Tensor):
                out = (length + (2 * padding - kernel)).div(stride, rounding_mode="floor") + 1
                length = out.clamp_min(0).where(length > 0, 0)
            else:
                out = (length + 2 * padding - kernel) // stride + 1
                length = max(0, out) if length > 0 else 0
        return length
