"""Token deletion (Lewis et al., 2020): nothing marks what is gone."""

from __future__ import annotations

import numpy as np

from stk.data.noise.masking import choose
from stk.data.noise.symbols import Ids, Symbols


def delete(
    tokens: Ids, generator: np.random.Generator, symbols: Symbols, *, rate: float = 0.3
) -> Ids:
    """``tokens`` without ``rate`` of its text, a subsequence; rounding as in ``choose``."""
    return np.delete(tokens, choose(tokens, generator, symbols, rate=rate))
