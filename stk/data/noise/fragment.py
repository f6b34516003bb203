"""The fragment that MASS hides (Song et al., 2019)."""

from __future__ import annotations

import numpy as np


def fragment(length: int, generator: np.random.Generator, *, share: float = 0.5) -> tuple[int, int]:
    """Where the hidden fragment of a sentence lies: ``(begin, end)``, ``end`` exclusive.

    It holds ``share * length`` tokens, rounded (at least one), and stands at the beginning with
    probability 0.2, at the end with 0.2, and else anywhere, as in the authors' code.

    Args:
        length: tokens of the sentence, begin symbol not counted; at least 1.
        generator: the row's own.
        share: in (0, 1].
    """
    if length < 1 or not 0.0 < share <= 1.0:
        raise ValueError("a fragment needs a sentence and a share in (0, 1]")
    size = max(1, int(length * share + 0.5))
    draw = generator.random()
    if draw < 0.2:
        begin = 0
    elif draw < 0.4:
        begin = length - size
    else:
        begin = int(generator.integers(length - size + 1))
    return begin, begin + size
