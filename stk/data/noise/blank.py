"""Word blanking for denoising (Xie et al., 2017; Lample et al., 2018)."""

from __future__ import annotations

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, check_rate, units


def blank(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float = 0.1,
    whole_words: bool = False,
) -> Ids:
    """Put the mask in place of every unit with probability ``rate``; the length stays.

    Args:
        tokens: ``(n,)`` ids; specials stay.
        generator: the row's own.
        symbols: of the vocabulary.
        rate: 0.1 in XLM.
        whole_words: all pieces of a word are blanked together.
    """
    check_rate(rate)
    out = tokens.copy()
    places, unit = units(tokens, symbols, whole_words)
    if len(unit):
        blanked = generator.random(unit[-1] + 1) < rate
        out[places[blanked[unit]]] = symbols.mask
    return out
