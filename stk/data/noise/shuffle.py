"""Local shuffling for denoising (Lample et al., 2018)."""

from __future__ import annotations

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, units


def shuffle(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    distance: float = 3.0,
    whole_words: bool = False,
) -> Ids:
    """Sort units by ``i + U(0, distance)``: none moves by ``distance`` or more.

    Args:
        tokens: ``(n,)`` ids; specials stay where they are.
        generator: the row's own.
        symbols: of the vocabulary.
        distance: 3 in the paper; up to 1 changes nothing.
        whole_words: words move as a whole, rather than single pieces.
    """
    out = tokens.copy()
    places, unit = units(tokens, symbols, whole_words)
    if len(unit):
        keys = np.arange(unit[-1] + 1) + generator.random(unit[-1] + 1) * distance
        out[places] = tokens[places[np.argsort(keys[unit], kind="stable")]]
    return out
