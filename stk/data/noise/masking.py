"""Masking as in BERT (Devlin et al., 2019) and XLM (Conneau and Lample, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stk.data.noise.rows import Generators, pad, smallest, split, uniform
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
    draws = generator.random((1, 1 + len(tokens)))
    return np.flatnonzero(_chosen(tokens[None], draws, symbols, rate, weights)[0])


def corrupt(
    tokens: Ids,
    places: np.ndarray,
    generator: np.random.Generator,
    symbols: Symbols,
    mix: Mix = BERT_MIX,
) -> Ids:
    """``tokens`` with those at ``places`` masked, made random or left, as ``mix`` shares them."""
    out = tokens.copy()
    out[places] = _replaced(tokens[places], generator.random((2, len(places))), symbols, mix)
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
    return mask_rows([tokens], [generator], symbols, rate=rate, mix=mix, weights=weights)[0]


def mask_rows(
    rows: Sequence[Ids],
    generators: Generators,
    symbols: Symbols,
    *,
    rate: float = 0.15,
    mix: Mix = BERT_MIX,
    weights: np.ndarray | None = None,
) -> list[Masked]:
    """What :func:`mask` gives for every row and its generator, all at once."""
    if not rows:
        return []
    tokens, lengths = pad(rows)
    width = tokens.shape[1]
    # A row's numbers follow one another: rounding, then keys, kinds and replacements of its tokens.
    drawn = uniform(generators, (1 + 3 * lengths).tolist())
    starts = 1 + np.arange(3)[:, None] * lengths  # (3, B): where each of the three begins
    index = np.minimum(starts[:, :, None] + np.arange(width), drawn.shape[1] - 1)
    keys, *kinds = np.take_along_axis(drawn[None], index, axis=2)
    draws = np.concatenate([drawn[:, :1], keys], axis=1)
    chosen = _chosen(tokens, draws, symbols, rate, weights)
    at = np.nonzero(chosen)
    out = tokens.copy()
    out[at] = _replaced(tokens[at], np.stack([kind[at] for kind in kinds]), symbols, mix)
    places = split(at[1], chosen.sum(axis=1))
    return [
        Masked(row[:length], found)
        for row, length, found in zip(out, lengths.tolist(), places, strict=True)
    ]


def _chosen(
    tokens: np.ndarray,
    draws: np.ndarray,
    symbols: Symbols,
    rate: float,
    weights: np.ndarray | None,
) -> np.ndarray:
    """``(B, T)`` boolean: what is chosen of ``tokens (B, T)``, by ``draws (B, 1 + T)``."""
    check_rate(rate)
    text = tokens >= symbols.first
    counts = (rate * text.sum(axis=1) + draws[:, 0]).astype(np.int64)
    keys = draws[:, 1:]
    if weights is not None:  # the smallest exponential arrival times: drawing one by one by weight
        keys = -np.log1p(-keys) / weights[tokens]
    return smallest(np.where(text, keys, np.inf), counts)


def _replaced(tokens: Ids, draws: np.ndarray, symbols: Symbols, mix: Mix) -> Ids:
    """What stands for chosen ``tokens (k,)``, by ``draws (2, k)``."""
    if min(mix) < 0 or sum(mix) > 1:
        raise ValueError(f"shares {mix} must not be negative nor add up to more than 1")
    kinds, others = draws
    spread = symbols.first + (others * (symbols.size - symbols.first)).astype(np.int64)
    kept = np.where(kinds < mix[0] + mix[1], spread, tokens)
    return np.where(kinds < mix[0], symbols.mask, kept)
