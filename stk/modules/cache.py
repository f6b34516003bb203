"""Keys and values of what running hypotheses have already read."""

from __future__ import annotations

import torch
from torch import Tensor

_ROOM = 32


class _Store:
    """A buffer with room to grow; ``filled`` counts the positions written so far."""

    def __init__(self, data: Tensor, filled: int) -> None:
        self.data, self.filled = data, filled


class SelfCache:
    """Keys and values of every decoder layer for ``R`` hypotheses of equal length.

    Appending writes into spare room of a shared buffer, yet a cache never changes once made: one
    that is continued in two ways is copied for the second.

    Attributes:
        length: tokens read so far.
    """

    def __init__(self, store: _Store, length: int) -> None:
        self._store, self.length = store, length

    @staticmethod
    def empty(rows: int, layers: int, heads: int, width: int, like: Tensor) -> SelfCache:
        """A cache in which nothing was read; dtype and device are those of ``like``."""
        data = like.new_empty(rows, layers, 2, _ROOM, heads, width)
        return SelfCache(_Store(data, 0), 0)

    @property
    def rows(self) -> int:
        """Number of hypotheses."""
        return self._store.data.shape[0]

    def extend(self) -> SelfCache:
        """The cache with room for one more token, whose keys and values :meth:`write` sets."""
        store, length = self._store, self.length
        data = store.data
        if store.filled != length:  # another continuation has written here already
            store = _Store(data.clone(), length)
        if length == data.shape[3]:
            rows, layers, two, size, heads, width = data.shape
            grown = data.new_empty(rows, layers, two, 2 * size, heads, width)
            grown[:, :, :, :size] = data
            store = _Store(grown, length)
        store.filled = length + 1
        return SelfCache(store, length + 1)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Set the newest token's ``key`` and ``value (R, H, d)`` in one layer.

        Returns:
            All keys and values of that layer, ``(R, H, length, d)`` each, as views.
        """
        data = self._store.data
        data[:, layer, 0, self.length - 1] = key
        data[:, layer, 1, self.length - 1] = value
        both = data[:, layer, :, : self.length].transpose(2, 3)
        return both[:, 0], both[:, 1]

    def select(self, rows: Tensor) -> SelfCache:
        """The cache of the given hypotheses, ``rows (R',)`` int64 in ``0..R-1``."""
        data = self._store.data
        chosen = data.new_empty(len(rows), *data.shape[1:])
        with torch.no_grad():  # writing into a tensor is all that leaves the spare room untouched
            read = data[:, :, :, : self.length]
            torch.index_select(read, 0, rows, out=chosen[:, :, :, : self.length])
        return SelfCache(_Store(chosen, self.length), self.length)
