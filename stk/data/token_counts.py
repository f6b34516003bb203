"""How often every id of a vocabulary occurs in text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stk.data.atomic import replacing

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
