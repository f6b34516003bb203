"""Spans of masked steps, and distractors among them, as wav2vec 2.0 draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SpanConfig:
    """Spans of ``mask_length`` steps that may overlap, begun at distinct steps.

    A clip of T steps gets ``floor(mask_share * T / mask_length + u)`` of them, u uniform in
    [0, 1), and at least ``mask_least`` (Baevski et al., 2020).
    """

    mask_share: float = 0.65
    mask_length: int = 10
    mask_least: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.mask_share <= 1.0:
            raise ValueError("mask_share must lie in (0, 1]")
        if self.mask_length < 1 or self.mask_least < 1:
            raise ValueError("mask_length and mask_least must be at least 1")

    @property
    def shortest(self) -> int:
        """Steps of the shortest clip that can be masked."""
        return self.mask_length + self.mask_least - 1

    def expected(self, steps: int) -> float:
        """About how many of ``steps`` steps are masked."""
        starts = max(self.mask_least, self.mask_share * steps / self.mask_length)
        return steps * (1.0 - (1.0 - min(1.0, self.mask_length / steps)) ** starts)


def draw_spans(steps: int, config: SpanConfig, rng: np.random.Generator) -> np.ndarray:
    """Masked steps of one clip: distinct int64 in ``0..steps - 1``, in random order.

    Args:
        steps: at least ``config.shortest``.
        config: how they are drawn.
        rng: the row's own generator.
    """
    count = int(config.mask_share * steps / config.mask_length + rng.random())
    room = steps - config.mask_length + 1
    starts = rng.choice(room, min(room, max(config.mask_least, count)), replace=False)
    places = np.unique(starts[:, None] + np.arange(config.mask_length))
    return rng.permutation(places)


def trim(rows: Sequence[np.ndarray]) -> Tensor:
    """``(B, M)`` int64, ascending: as many masked steps of every row as the row with fewest has.

    Rows come in random order, so what is cut off is random, and drawn by the row itself.
    """
    least = min(len(row) for row in rows)
    return torch.from_numpy(np.sort(np.stack([row[:least] for row in rows]), axis=1))


def draw_distractors(masked: int, count: int, rngs: Sequence[np.random.Generator]) -> Tensor:
    """``(B, M, K)`` int64 in ``0..M - 1``: for every masked step others of the same clip.

    Drawn alike and with replacement; never the step itself.

    Args:
        masked: M, at least 2.
        count: K.
        rngs: each row's own generator.
    """
    others = np.stack([rng.integers(0, masked - 1, size=(masked, count)) for rng in rngs])
    own = np.arange(masked)[:, None]
    return torch.from_numpy(others + (others >= own))
