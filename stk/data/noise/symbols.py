"""What noise has to know of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stk.data.vocab import Vocab

Ids = np.ndarray
"""1-D int64 token ids of one row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Symbols:
    """Ids of a vocabulary, as noise reads them.

    Attributes:
        mask: id of the mask symbol.
        first: first id of text; what is below (padding, end, tags, unknown) is special.
        size: number of ids V; random replacements are drawn from ``first..V-1``.
        starts: ``(V,)`` boolean, True where a piece begins a word.
    """

    mask: int
    first: int
    size: int
    starts: np.ndarray


_KNOWN: dict[str, Symbols] = {}


def symbols_of(vocab: Vocab) -> Symbols:
    """The symbols of a vocabulary; words begin with a piece that begins with a space.

    Raises:
        ValueError: the vocabulary has no piece of text.
    """
    if vocab.digest in _KNOWN:
        return _KNOWN[vocab.digest]
    first = vocab.mask + 1 + len(vocab.tags)
    if first >= len(vocab):
        raise ValueError("the vocabulary has no piece of text")
    starts = np.array([vocab.piece(i).startswith(("\u2581", " ")) for i in range(len(vocab))])
    starts[:first] = False
    symbols = Symbols(mask=vocab.mask, first=first, size=len(vocab), starts=starts)
    _KNOWN[vocab.digest] = symbols
    return symbols


def word_begins(tokens: Ids, symbols: Symbols) -> np.ndarray:
    """``(n,)`` boolean: text that begins a word; text after a special always does."""
    return word_begins_of_rows(tokens[None], symbols)[0]


def word_begins_of_rows(tokens: np.ndarray, symbols: Symbols) -> np.ndarray:
    """``(B, T)`` boolean for every row of ``tokens (B, T)``, as in :func:`word_begins`."""
    text = tokens >= symbols.first
    begins: np.ndarray = symbols.starts[tokens]
    begins[:, 1:] |= ~text[:, :-1]
    begins[:, :1] = True
    begins &= text
    return begins


def units(tokens: Ids, symbols: Symbols, whole_words: bool) -> tuple[np.ndarray, np.ndarray]:
    """The units that word noise acts on: single pieces, or whole words.

    Returns:
        ``places (m,)``, where text stands, and ``unit (m,)``, its unit counted from 0.
    """
    places = np.flatnonzero(tokens >= symbols.first)
    if not whole_words:
        return places, np.arange(len(places))
    return places, np.cumsum(word_begins(tokens, symbols)[places]) - 1


def check_rate(rate: float) -> None:
    """Raise ValueError unless ``rate`` lies in [0, 1]."""
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"a rate of {rate} does not lie in [0, 1]")
