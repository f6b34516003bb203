"""How often every id of a vocabulary occurs in text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stk.data.atomic import replacing
from stk.errors import StkError

if TYPE_CHECKING:
    from stk.data.vocab import Vocab


def count_tokens(texts: Iterable[str], vocab: Vocab) -> np.ndarray:
    """``(V,)`` int64 occurrences of ids in texts."""
    counts = np.zeros(len(vocab), dtype=np.int64)
    for text in texts:
        counts += np.bincount(np.array(vocab.encode(text), dtype=np.int64), minlength=len(vocab))
    return counts


def save_counts(counts: np.ndarray, path: str | Path) -> None:
    """Write counts as ``.npy``, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, counts)


def load_counts(path: str | Path) -> np.ndarray:
    """``(V,)`` int64 counts that :func:`save_counts` wrote.

    Raises:
        StkError: there is no such file.
    """
    if not Path(path).is_file():
        raise StkError("no such file of counts", file=path, mend="stk-data counts writes it")
    counts: np.ndarray = np.load(path)
    return counts


def check_counts(counts: np.ndarray, vocab: Vocab, path: str | Path | None) -> None:
    """Raise unless there is a count (or a weight) for every id of a vocabulary.

    Raises:
        StkError: names the file.
    """
    if len(counts) != len(vocab):
        raise StkError(
            f"counts of {len(counts)} ids, but the vocabulary has {len(vocab)}",
            file=path,
            mend="count with the run's vocabulary",
        )
