"""What travels from collate to the model: padded tensors with their lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from stk.data.example import Example

B = TypeVar("B", bound="Movable")


class Movable:
    """A dataclass of tensors, nested alike, that moves between devices as one."""

    def to(self: B, device: torch.device | str, non_blocking: bool = True) -> B:
        """A copy with every tensor on ``device``; other values are shared."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: B) -> B:
        """A copy in page-locked memory (the data loader calls this when a GPU is used)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: B, change: Any) -> B:
        assert dataclasses.is_dataclass(self) and not isinstance(self, type)
        return dataclasses.replace(
            self, **{f.name: _map(getattr(self, f.name), change) for f in dataclasses.fields(self)}
        )


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Movable):
        return value._map(change)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Padded(Movable):
    """Sequences padded to one length.

    Attributes:
        data: ``(B, T, ...)``, padding at the end (zeros for sound, the pad id 0 for tokens).
        lengths: ``(B,)`` int64, real elements of each row.
    """

    data: Tensor
    lengths: Tensor

    @staticmethod
    def stack(rows: Sequence[Tensor | Sequence[int]], fill: float = 0) -> Padded:
        """Pad rows ``(T_i, ...)`` (or lists of token ids, to int64) to the longest."""
        tensors = [
            torch.as_tensor(row)
            if isinstance(row, Tensor)
            else torch.tensor(row, dtype=torch.int64)
            for row in rows
        ]
        lengths = torch.tensor([len(row) for row in tensors], dtype=torch.int64)
        longest = int(lengths.max()) if len(tensors) else 0
        tail = tensors[0].shape[1:] if tensors else ()
        dtype = tensors[0].dtype if tensors else torch.int64
        data = torch.full((len(tensors), longest, *tail), fill, dtype=dtype)
        for i, row in enumerate(tensors):
            data[i, : len(row)] = row
        return Padded(data, lengths)


@dataclass(frozen=True)
class Source(Padded):
    """What an encoder reads. The dtype tells sound from text.

    ``data`` is float ``(B, T, F)`` frames, float ``(B, N)`` samples, or int64 ``(B, S)`` ids.

    Attributes:
        positions: ``(B, S)`` int64, where each token of a text stands; None: one after another.
        languages: ``(B, S)`` int64, the language of each token, or None.
        target_languages: ``(B,)`` int64, the language that is to be written, or None.
        masked: ``(B, T)`` boolean, True where a wave encoder's step is replaced by its mask
            vector, T its steps; None: nowhere.
    """

    positions: Tensor | None = None
    languages: Tensor | None = None
    target_languages: Tensor | None = None
    masked: Tensor | None = None

    @property
    def is_text(self) -> bool:
        """Whether these are token ids."""
        return not self.data.is_floating_point()


@dataclass(frozen=True)
class Batch(Movable):
    """Base of every objective's batch; ``ids`` are the examples' ids, for reports."""

    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What one example costs in a batch: 10 ms frames of sound and tokens of its longer text."""

    frames: int = 0
    tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One example on its way into a batch.

    Attributes:
        example: the row.
        rng: this row's own generator, a function of (seed, stream, epoch, row) alone, from which
            every mask, noise and augmentation of the row is drawn.
        waveform: ``(N,)`` float32 in [-1, 1] at the features' rate, speed already changed; None
            where the objective reads no sound.
    """

    example: Example
    rng: np.random.Generator
    waveform: Tensor | None = None
