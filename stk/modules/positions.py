"""Positions: sinusoidal (fixed) and learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stk.errors import StkError


def sinusoids(
    count: int, width: int, *, exact: bool = False, device: torch.device | None = None
) -> Tensor:
    """Sinusoidal positions ``(count, width)`` fp32 (Vaswani et al., 2017).

    The first half of a row are sines, the second half cosines, of wavelengths that grow
    geometrically from ``2 pi`` to ``10000 * 2 pi``, as in tensor2tensor and fairseq; with
    ``exact`` to the last one before it, as the paper's formula and Marian have it. An odd width
    ends in a zero.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float64, device=device)
    intervals = half if exact else max(1, half - 1)
    rates = torch.exp(steps * (-math.log(10000.0) / intervals))
    angles = torch.arange(count, dtype=torch.float64, device=device)[:, None] * rates
    table = torch.zeros(count, width, dtype=torch.float64, device=device)
    table[:, :half], table[:, half : 2 * half] = angles.sin(), angles.cos()
    return table.float()


class SinusoidalPositions(nn.Module):
    """Adds fixed sinusoidal positions; the table grows with the longest sequence met.

    Args:
        width: of a vector.
        initial: positions computed at once.
        exact: as in :func:`sinusoids`.
    """

    table: Tensor

    def __init__(self, width: int, initial: int = 2048, *, exact: bool = False) -> None:
        super().__init__()
        self.width, self.exact = width, exact
        self.register_buffer("table", sinusoids(initial, width, exact=exact), persistent=False)

    def forward(self, count: int, start: int = 0) -> Tensor:
        """Positions ``start .. start + count - 1``: ``(count, width)``."""
        end = start + count
        if end > len(self.table):
            longer = sinusoids(
                max(end, 2 * len(self.table)),
                self.width,
                exact=self.exact,
                device=self.table.device,
            )
            self.table = longer.to(self.table.dtype)
        return self.table[start:end]

    def at(self, places: Tensor) -> Tensor:
        """Positions ``(...)`` int64, each at least 0, of any order: ``(..., width)``."""
        if places.device.type == "cpu" and places.numel():
            self(int(places.max()) + 1)  # the table grows; a GPU's counts are not waited for
        return self.table[places]


class LearnedPositions(nn.Module):
    """A trained vector per position, for at most ``limit`` positions."""

    def __init__(self, width: int, limit: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(limit, width))
        nn.init.normal_(self.weight, std=width**-0.5)

    def forward(self, count: int, start: int = 0) -> Tensor:
        """Positions ``start .. start + count - 1``: ``(count, width)``.

        Raises:
            StkError: there are fewer learned positions than asked for.
        """
        self._check(start + count)
        return self.weight[start : start + count]

    def at(self, places: Tensor) -> Tensor:
        """Positions ``(...)`` int64 in ``0..limit-1``, of any order: ``(..., width)``.

        Raises:
            StkError: on the CPU, there are fewer learned positions; a GPU is not waited for.
        """
        if places.device.type == "cpu" and places.numel() and not torch.compiler.is_compiling():
            self._check(int(places.max()) + 1)
        return self.weight[places]

    def _check(self, count: int) -> None:
        if count > len(self.weight):
            raise StkError(
                f"a sequence of {count} tokens or more does not fit into the model's "
                f"{len(self.weight)} learned positions",
                mend="leave out longer examples; in decoding, lower max_length",
            )


def learned_limit(model: nn.Module) -> int | None:
    """The fewest positions that a part of a model has learned; None: it has no learned ones."""
    counts = [len(m.weight) for m in model.modules() if isinstance(m, LearnedPositions)]
    return min(counts, default=None)


def positions(kind: str, width: int, limit: int) -> SinusoidalPositions | LearnedPositions:
    """``sinusoidal``, ``sinusoidal_exact`` or ``learned`` ones; ``limit`` bounds the last alone."""
    if kind == "learned":
        return LearnedPositions(width, limit)
    return SinusoidalPositions(width, exact=kind == "sinusoidal_exact")
