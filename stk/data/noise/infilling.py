"""Text infilling (Lewis et al., 2020; Liu et al., 2020): spans of words become one mask each."""

from __future__ import annotations

import math

import numpy as np

from stk.data.noise.symbols import Ids, Symbols, check_rate, word_begins


def span_lengths(generator: np.random.Generator, budget: int, mean: float) -> np.ndarray:
    """Poisson lengths whose sum is ``budget``, the last one cut to fit; zeros are among them.

    Raises:
        ValueError: ``mean`` is not above 0.
    """
    if mean <= 0:
        raise ValueError("the mean length of spans must be above 0")
    if budget <= 0:
        return np.zeros(0, dtype=np.int64)
    drawn = np.zeros(0, dtype=np.int64)
    reached = drawn
    while not len(reached) or reached[-1] < budget:
        more = generator.poisson(mean, int(2 * budget / mean) + 8)
        drawn = np.concatenate((drawn, more))
        reached = np.cumsum(drawn)
    last = int(np.searchsorted(reached, budget))
    lengths = drawn[: last + 1]
    lengths[last] -= reached[last] - budget
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
    begins = word_begins(tokens, symbols)
    heads = np.flatnonzero(begins)
    words = len(heads)
    lengths = span_lengths(generator, math.ceil(rate * words - 1e-9), mean)
    spans = len(lengths)
    if not spans:
        return tokens.copy()
    budget = int(lengths.sum())
    slots = generator.permutation(words - budget + spans)[:spans]
    slots.sort()
    ends = np.cumsum(lengths)
    first = slots - np.arange(spans) + ends - lengths  # the word each span begins with
    text = tokens >= symbols.first
    after = len(tokens) - int(text[::-1].argmax())  # behind the last piece of text
    counts = np.bincount(first, minlength=words + 1)
    covered = np.cumsum(counts - np.bincount(first + lengths, minlength=words + 1))
    kept = ~text
    word_of = np.cumsum(begins) - 1
    kept |= covered[word_of] == 0
    before = np.append(heads, after)[first]  # spans in front of this place
    inserted = np.cumsum(np.bincount(before, minlength=len(tokens) + 1)[: len(tokens)])
    where = np.cumsum(kept) - 1 + inserted
    out = np.full(int(kept.sum()) + spans, symbols.mask, dtype=tokens.dtype)
    if random_share:
        chosen = generator.random(len(out)) < random_share
        out[chosen] = generator.integers(symbols.first, symbols.size, int(chosen.sum()))
    out[where[kept]] = tokens[kept]
    return out
