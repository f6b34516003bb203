"""Keys and values of what running hypotheses have already read."""

from __future__ import annotations

import torch
from torch import Tensor

_ROOM = 32


class _Store:
    """A buffer a layer with room to grow; ``filled`` counts the positions written so far.

    One buffer for all layers would be so large that every copy gets fresh pages from the system.
    """

    def __init__(self, layers: list[Tensor], filled: int) -> None:
        self.layers, self.filled = layers, filled


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
        shape = (rows, 2, _ROOM, heads, width)
        return SelfCache(_Store([like.new_empty(shape) for _ in range(layers)], 0), 0)

    @property
    def rows(self) -> int:
        """Number of hypotheses."""
        return self._store.layers[0].shape[0]

    def extend(self) -> SelfCache:
        """The cache with room for one more token, whose keys and values :meth:`write` sets."""
        store, length = self._store, self.length
        if store.filled != length:  # another continuation has written here already
            store = _Store([data.clone() for data in store.layers], length)
        if length == store.layers[0].shape[2]:
            store = _Store([_grown(data) for data in store.layers], length)
        store.filled = length + 1
        return SelfCache(store, length + 1)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Set the newest token's ``key`` and ``value (R, H, d)`` in one layer.

        Returns:
            All keys and values of that layer, ``(R, H, length, d)`` each, as views.
        """
        data = self._store.layers[layer]
        data[:, 0, self.length - 1] = key
        data[:, 1, self.length - 1] = value
        both = data[:, :, : self.length].transpose(2, 3)
        return both[:, 0], both[:, 1]

    def select(self, rows: Tensor) -> SelfCache:
        """The cache of the given hypotheses, ``rows (R',)`` int64 in ``0..R-1``."""
        chosen = []
        with torch.no_grad():  # writing into a tensor is all that leaves the spare room untouched
            for data in self._store.layers:
                copy = data.new_empty(len(rows), *data.shape[1:])
                read, into = data[:, :, : self.length], copy[:, :, : self.length]
                torch.index_select(read, 0, rows, out=into)
                chosen.append(copy)
        return SelfCache(_Store(chosen, self.length), self.length)


def _grown(data: Tensor) -> Tensor:
    rows, two, size, heads, width = data.shape
    grown = data.new_empty(rows, two, 2 * size, heads, width)
    grown[:, :, :size] = data
    return grown
