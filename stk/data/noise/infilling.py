"""Text infilling (Lewis et al., 2020; Liu et al., 2020): spans of words become one mask each."""

from __future__ import annotations

import math

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, check_rate, word_begins


def span_lengths(generator: np.random.Generator, budget: int, mean: float) -> list[int]:
    """Poisson lengths whose sum is ``budget``, the last one cut to fit; zeros are among them.

    Raises:
        ValueError: ``mean`` is not above 0.
    """
    if mean <= 0:
        raise ValueError("the mean length of spans must be above 0")
    lengths: list[int] = []
    while budget > 0:
        for drawn in generator.poisson(mean, int(1.5 * budget / mean) + 4).tolist():
            lengths.append(min(drawn, budget))
            budget -= lengths[-1]
            if not budget:
                break
    return lengths


def infill(
    tokens: Ids,
    generator: np.random.Generator,
    symbols: Symbols,
    *,
    rate: float = 0.3,
    mean: float = 3.5,
    random_share: float = 0.0,
) -> Ids:
    """Replace spans of whole words, ``ceil(rate * words)`` words together, by one mask each.

    Spans never overlap, so the share of words that vanish is exact; they may touch. A span of
    length 0 inserts a mask. Where spans and the words left stand among each other is uniform.
    Specials stay where they are, those inside a span too.

    Args:
        tokens: ``(n,)`` ids.
        generator: the row's own.
        symbols: of the vocabulary.
        rate: share of words; 0.3 in BART, 0.35 in mBART.
        mean: of the Poisson distribution of lengths.
        random_share: of spans that become a random token instead of the mask.

    Returns:
        ``(n',)`` ids.
    """
    check_rate(rate)
    check_rate(random_share)
    text = tokens >= symbols.first
    heads = np.flatnonzero(word_begins(tokens, symbols)).tolist()
    words = len(heads)
    lengths = span_lengths(generator, math.ceil(rate * words - 1e-9), mean)
    if not lengths:
        return tokens.copy()
    heads.append(len(tokens) - int(text[::-1].argmax()))  # behind the last piece of text
    slots = generator.permutation(words - sum(lengths) + len(lengths))[: len(lengths)].tolist()
    shown = _shown(generator, len(lengths), symbols, random_share)
    ids, out = tokens.tolist(), []
    done = hidden = 0
    for number, slot in enumerate(sorted(slots)):
        word = slot - number + hidden  # the one the span begins with
        hidden += lengths[number]
        begin, end = heads[word], heads[word + lengths[number]]
        out += ids[done:begin]
        out.append(shown[number])
        out += [token for token in ids[begin:end] if token < symbols.first]
        done = end
    return np.array(out + ids[done:], dtype=tokens.dtype)


def _shown(
    generator: np.random.Generator, spans: int, symbols: Symbols, random_share: float
) -> list[int]:
    """What stands for each span: the mask, or at times a random token."""
    shown = np.full(spans, symbols.mask)
    if random_share:
        other = generator.random(spans) < random_share
        shown[other] = generator.integers(symbols.first, symbols.size, int(other.sum()))
    return shown.tolist()
