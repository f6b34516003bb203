"""Rows of a batch as one padded array, so that noise works on all of them at once.

Every row draws from its own generator, in blocks whose sizes depend on the row alone; all else is
arithmetic over the whole batch. So a row gets the same noise whatever batch it is in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stk.data.noise.symbols import Ids

Generators = Sequence[np.random.Generator]
"""One generator a row, the row's own."""


def pad(rows: Sequence[Ids]) -> tuple[np.ndarray, np.ndarray]:
    """Rows, at least one, as ``(B, T)`` int64, padded with 0, and their lengths ``(B,)``."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    out = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return out, lengths


def split(flat: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Consecutive parts of ``flat``, as many elements each as ``counts (B,)`` says."""
    ends = np.cumsum(counts).tolist()
    return [flat[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def uniform(generators: Generators, counts: Sequence[int], fill: float = 0.0) -> np.ndarray:
    """``(B, max(counts))``: ``counts[b]`` numbers in [0, 1) from generator b, then ``fill``."""
    out = np.full((len(counts), max(counts, default=0)), fill)
    for generator, count, row in zip(generators, counts, out, strict=True):
        generator.random(out=row[:count])
    return out


def smallest(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``(B, N)`` boolean, True at the ``counts[b]`` smallest of the distinct ``keys (B, N)``.

    Keys that cannot be chosen are infinite; no count exceeds the finite keys of its row.
    """
    if not keys.size:
        return np.zeros(keys.shape, dtype=bool)
    ordered = np.sort(keys, axis=1)
    bounds = ordered[np.arange(len(keys)), np.maximum(counts, 1) - 1]
    return (keys <= bounds[:, None]) & (counts > 0)[:, None]
