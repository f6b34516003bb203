"""Text infilling (Lewis et al., 2020; Liu et al., 2020): spans of words become one mask each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from stk.data.noise.rows import Generators, pad, smallest, split, uniform
from stk.data.noise.symbols import Ids, Symbols, check_rate, word_begins_of_rows


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
        mean: of the Poisson distribution of lengths, above 0. BART's paper has 3; the command
            published for it in fairseq and mBART have 3.5, the default here.
        random_share: of spans that become a random token instead of the mask.

    Returns:
        ``(n',)`` ids.
    """
    share = random_share
    return infill_rows([tokens], [generator], symbols, rate=rate, mean=mean, random_share=share)[0]


def infill_rows(
    rows: Sequence[Ids],
    generators: Generators,
    symbols: Symbols,
    *,
    rate: float = 0.3,
    mean: float = 3.5,
    random_share: float = 0.0,
) -> list[Ids]:
    """What :func:`infill` gives for every row and its generator, all at once."""
    check_rate(rate)
    check_rate(random_share)
    if not rows:
        return []
    tokens, sizes = pad(rows)
    begins = word_begins_of_rows(tokens, symbols)
    words = begins.sum(axis=1)
    budgets = np.ceil(rate * words - 1e-9).astype(np.int64)
    lengths, spans = span_lengths(generators, budgets, mean)
    places = words - budgets + spans  # words that stay and spans, in one order
    drawn = uniform(generators, places.tolist(), fill=np.inf)
    is_span = smallest(drawn, spans)
    # Every place takes up some words: a span its length, a word that stays one.
    taken = (np.arange(drawn.shape[1]) < places[:, None]).astype(np.int64)
    taken[is_span] = lengths[np.arange(lengths.shape[1]) < spans[:, None]]
    first = np.cumsum(taken, axis=1) - taken
    row, place = np.nonzero(is_span)
    shown = _shown(generators, spans, symbols, random_share)
    word = first[row, place]
    hidden = _covered(row, word, taken[row, place], (len(rows), int(words.max(initial=0)) + 1))
    return _rebuilt(tokens, sizes, begins, symbols, hidden, (row, word, shown))


def span_lengths(
    generators: Generators, budgets: np.ndarray, mean: float
) -> tuple[np.ndarray, np.ndarray]:
    """Poisson lengths of which each row's sum is its budget, the last one cut to fit.

    Args:
        generators: one a row.
        budgets: ``(B,)`` int64, at least 0.
        mean: of the distribution.

    Returns:
        Lengths ``(B, S)`` int64, zeros among them, of which the first ``counts (B,)`` of a row
        are meant.

    Raises:
        ValueError: ``mean`` is not above 0.
    """
    if mean <= 0:
        raise ValueError("the mean length of spans must be above 0")
    table = _poisson(mean)
    # Blocks are so long that a second one is rare; how many there are depends on the row alone.
    blocks = [int(1.5 * n / mean) + 8 if n else 0 for n in budgets.tolist()]
    drawn = np.searchsorted(table, uniform(generators, blocks), side="right")
    drawn[np.arange(drawn.shape[1]) >= np.array(blocks, dtype=np.int64)[:, None]] = 0
    short = np.flatnonzero(drawn.sum(axis=1) < budgets)
    if len(short):
        drawn = _prolonged(drawn, short, blocks, budgets, generators, table)
    reached = np.cumsum(drawn, axis=1)
    counts = (reached < budgets[:, None]).sum(axis=1) + (budgets > 0)
    left = budgets[:, None] - (reached - drawn)
    return np.minimum(drawn, np.maximum(left, 0)), counts


def _prolonged(
    drawn: np.ndarray,
    short: np.ndarray,
    blocks: Sequence[int],
    budgets: np.ndarray,
    generators: Generators,
    table: np.ndarray,
) -> np.ndarray:
    """More lengths for the rows that do not reach their budgets yet."""
    longer: dict[int, np.ndarray] = {}
    for i in short.tolist():
        parts = [drawn[i, : blocks[i]]]
        while sum(int(part.sum()) for part in parts) < budgets[i]:
            parts.append(np.searchsorted(table, generators[i].random(blocks[i]), side="right"))
        longer[i] = np.concatenate(parts)
    width = max(drawn.shape[1], *(len(part) for part in longer.values()))
    out = np.zeros((len(drawn), width), dtype=drawn.dtype)
    out[:, : drawn.shape[1]] = drawn
    for i, part in longer.items():
        out[i, : len(part)] = part
    return out


@lru_cache(maxsize=16)
def _poisson(mean: float) -> np.ndarray:
    """Probabilities of at most 0, 1, 2 ... events; how many a uniform number passes is a draw."""
    steps = np.arange(int(mean + 12 * math.sqrt(mean)) + 20)
    logs = steps * math.log(mean) - mean - np.array([math.lgamma(k + 1.0) for k in steps.tolist()])
    table = np.cumsum(np.exp(logs))
    table.setflags(write=False)
    return table


def _shown(
    generators: Generators, spans: np.ndarray, symbols: Symbols, random_share: float
) -> np.ndarray:
    """``(K,)``: what stands for every span of the batch, the mask or at times a random token."""
    shown = np.full(int(spans.sum()), symbols.mask, dtype=np.int64)
    if random_share:
        counts = spans.tolist()
        draws = [g.random((2, n)) for g, n in zip(generators, counts, strict=True)]
        kinds, others = np.concatenate([np.zeros((2, 0)), *draws], axis=1)
        spread = symbols.first + (others * (symbols.size - symbols.first)).astype(np.int64)
        shown = np.where(kinds < random_share, spread, shown)
    return shown


def _covered(
    row: np.ndarray, word: np.ndarray, length: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """``shape`` boolean: words that spans cover, ``length`` of them from ``word`` on."""
    edges = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    np.add.at(edges, (row, word), 1)
    np.add.at(edges, (row, word + length), -1)
    covered: np.ndarray = np.cumsum(edges, axis=1)[:, : shape[1]] > 0
    return covered


def _rebuilt(
    tokens: np.ndarray,
    sizes: np.ndarray,
    begins: np.ndarray,
    symbols: Symbols,
    hidden: np.ndarray,
    spans: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> list[Ids]:
    """Rows without their hidden words, and with what is shown for every span before its word."""
    row, word, shown = spans
    count, width = tokens.shape
    real = np.arange(width) < sizes[:, None]
    text = tokens >= symbols.first
    number = np.maximum(np.cumsum(begins, axis=1) - 1, 0)  # the word that a piece belongs to
    kept = real & ~(text & np.take_along_axis(hidden, number, axis=1))
    # Where every word begins; behind the last word is the end of the text.
    heads = np.zeros((count, hidden.shape[1] + 1), dtype=np.int64)
    at = np.nonzero(begins)
    heads[at[0], number[at]] = at[1]
    if width:
        behind = np.where(text.any(axis=1), width - text[:, ::-1].argmax(axis=1), 0)
        heads[np.arange(count), begins.sum(axis=1)] = behind
    before = np.zeros((count, width + 1), dtype=np.int64)
    np.cumsum(kept, axis=1, out=before[:, 1:])
    offsets = np.cumsum(before[:, -1]) - before[:, -1]
    inserted = heads[row, word]
    out = np.empty(int(kept.sum()) + len(shown), dtype=np.int64)
    is_shown = np.zeros(len(out), dtype=bool)
    is_shown[offsets[row] + before[row, inserted] + np.arange(len(shown))] = True
    out[is_shown], out[~is_shown] = shown, tokens[kept]
    return split(out, before[:, -1] + np.bincount(row, minlength=count))
