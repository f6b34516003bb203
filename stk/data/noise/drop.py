"""Word drop for denoising (Lample et al., 2018)."""

from __future__ import annotations

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, check_rate, units


def drop(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float = 0.1,
    whole_words: bool = False,
) -> Ids:
    """Leave every unit out with probability ``rate``; one, drawn uniformly, stays if none would.

    Args:
        tokens: ``(n,)`` ids; specials stay.
        generator: the row's own.
        symbols: of the vocabulary.
        rate: 0.1 in the paper.
        whole_words: words go as a whole, rather than single pieces.
    """
    check_rate(rate)
    places, unit = units(tokens, symbols, whole_words)
    if not len(unit):
        return tokens.copy()
    gone = generator.random(unit[-1] + 1) < rate
    if gone.all():
        gone[generator.integers(len(gone))] = False
    keep = np.ones(len(tokens), dtype=bool)
    keep[places] = ~gone[unit]
    return tokens[keep]
