"""Document rotation (Lewis et al., 2020)."""

from __future__ import annotations

import numpy as np

from stk.data.noise.symbols import Ids


def rotate(tokens: Ids, generator: np.random.Generator) -> Ids:
    """``tokens`` turned so that one of them, drawn uniformly, comes first; specials turn too."""
    return np.roll(tokens, -int(generator.integers(max(1, len(tokens)))))
