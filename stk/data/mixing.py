"""Which stream a micro-step draws from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stk.config.run import MixingConfig
from stk.data import rng as random
from stk.errors import StkError

_BLOCK = 4096


def shares(config: MixingConfig, weights: Sequence[float], sizes: Sequence[int]) -> np.ndarray:
    """Probability of every stream.

    ``uniform``: alike. ``weight``: by ``weights``. ``temperature``: by ``sizes ** (1 / T)``, so
    that T = 1 follows the data and a high T evens out (Arivazhagan et al., 2019).

    Args:
        config: the rule.
        weights: of the streams, >= 0.
        sizes: usable examples of the streams.

    Returns:
        ``(n,)`` float64 that sum to 1.

    Raises:
        StkError: a negative weight, or none above 0.
    """
    if config.rule == "uniform":
        raw = np.ones(len(weights))
    elif config.rule == "weight":
        raw = np.asarray(weights, dtype=np.float64)
    else:
        raw = np.asarray(sizes, dtype=np.float64) ** (1.0 / config.temperature)
    if (raw < 0).any() or not np.isfinite(raw).all() or raw.sum() <= 0:
        raise StkError("stream weights must be >= 0 and not all 0", mend=f"they are {list(raw)}")
    return raw / raw.sum()


class Mixing:
    """The stream of every micro-step: a pure function of (seed, micro-step), alike on all ranks.

    Args:
        shares: probabilities from :func:`shares`.
        seed: of the run.
    """

    def __init__(self, shares: np.ndarray, seed: int) -> None:
        self.shares = shares
        self._bounds = np.cumsum(shares)
        self._bounds[-1] = 1.0
        self._seed = seed
        self._before = [np.zeros(len(shares), dtype=np.int64)]  # draws before each block
        self._block: tuple[int, np.ndarray, np.ndarray] | None = None

    def _drawn(self, block: int) -> np.ndarray:
        """``(4096,)`` streams of the block's micro-steps."""
        draws = random.generator(random.MIX, self._seed, block).random(_BLOCK)
        return np.searchsorted(self._bounds, draws, side="right")

    def at(self, step: int) -> tuple[int, int]:
        """Stream of micro-step ``step``, and how often it was drawn before."""
        block, place = divmod(step, _BLOCK)
        if self._block is None or self._block[0] != block:
            self._block = (block, *self._ranked(block))
        return int(self._block[1][place]), int(self._block[2][place])

    def before(self, step: int) -> np.ndarray:
        """``(n,)`` int64: how often each stream was drawn before micro-step ``step``."""
        block, place = divmod(step, _BLOCK)
        self.at(step)
        drawn = np.bincount(self._drawn(block)[:place], minlength=len(self.shares))
        return self._before[block] + drawn

    def _ranked(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        streams = len(self.shares)
        while len(self._before) <= block:
            drawn = np.bincount(self._drawn(len(self._before) - 1), minlength=streams)
            self._before.append(self._before[-1] + drawn)
        drawn = self._drawn(block)
        earlier = np.empty(_BLOCK, dtype=np.int64)
        for stream in range(streams):
            places = np.flatnonzero(drawn == stream)
            earlier[places] = self._before[block][stream] + np.arange(len(places))
        return drawn, earlier
