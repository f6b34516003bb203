"""Masking as in BERT (Devlin et al., 2019) and XLM (Conneau and Lample, 2019)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, check_rate

Mix = tuple[float, float]
"""Shares of chosen tokens that become the mask, and a random token; the rest stay."""

BERT_MIX: Mix = (0.8, 0.1)


class Masked(NamedTuple):
    """A masked row: ``tokens (n,)``, and the chosen ``places (k,)`` in rising order."""

    tokens: Ids
    places: np.ndarray


def frequency_weights(counts: np.ndarray, exponent: float = 0.5) -> np.ndarray:
    """``(V,)`` weights ``count ** -exponent`` of ids, by which XLM spares frequent tokens.

    An id that was never counted weighs as if it was counted once. Exponent 0 weighs all alike.

    Args:
        counts: ``(V,)`` occurrences in the training text.
        exponent: 0.5 in the paper.
    """
    return np.maximum(np.asarray(counts, dtype=np.float64), 1.0) ** -exponent


def choose(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float = 0.15,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Places of text drawn without replacement, in rising order.

    Of ``m`` pieces of text ``rate * m`` are chosen, rounded up or down at random such that the
    mean is exact.

    Args:
        tokens: ``(n,)`` ids.
        generator: the row's own.
        symbols: of the vocabulary.
        rate: share of the text.
        weights: ``(V,)`` positive weight of every id; None: all alike.
    """
    check_rate(rate)
    text = np.flatnonzero(tokens >= symbols.first)
    count = int(rate * len(text) + generator.random())
    if weights is None:
        keys = generator.random(len(text))
    else:  # the smallest exponential arrival times: drawing one by one by weight
        keys = generator.standard_exponential(len(text)) / weights[tokens[text]]
    if count < len(text):
        text = text[np.argpartition(keys, count)[:count]]
        text.sort()
    return text


def corrupt(
    tokens: Ids,
    places: np.ndarray,
    generator: np.random.Generator,
    symbols: Symbols,
    mix: Mix = BERT_MIX,
) -> Ids:
    """``tokens`` with those at ``places`` masked, made random or left, as ``mix`` shares them."""
    if min(mix) < 0 or sum(mix) > 1:
        raise ValueError(f"shares {mix} must not be negative nor add up to more than 1")
    out = tokens.copy()
    draws = generator.random(len(places))
    out[places[draws < mix[0]]] = symbols.mask
    other = places[(draws >= mix[0]) & (draws < mix[0] + mix[1])]
    out[other] = generator.integers(symbols.first, symbols.size, len(other))
    return out


def mask(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float = 0.15,
    mix: Mix = BERT_MIX,
    weights: np.ndarray | None = None,
) -> Masked:
    """Choose text as :func:`choose` does and corrupt it as :func:`corrupt` does."""
    places = choose(tokens, generator, symbols, rate=rate, weights=weights)
    return Masked(corrupt(tokens, places, generator, symbols, mix), places)
