"""Cutting rows into batches of like lengths under hard bounds.

The order of batches is a pure function of (seed, stream, epoch): rows are sorted by their
length times a random factor of up to 1 + :data:`JITTER`, cut greedily, and the batches shuffled.
Batches thus change from epoch to epoch while padding stays near half of the jitter.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stk.config.run import BatchConfig
from stk.data import rng as random

JITTER = 0.1
_KEPT_EPOCHS = 3


@dataclass(frozen=True)
class Costs:
    """What rows cost, as parallel arrays.

    Attributes:
        frames: ``(n,)`` int32, 10 ms frames (0 where no sound is read).
        tokens: ``(n,)`` int32, tokens of the longer text side.
        groups: ``(n,)`` int32; rows of one batch share it.
    """

    frames: np.ndarray
    tokens: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def faster(frames: np.ndarray, factor: float, window: float) -> np.ndarray:
    """Most frames that clips can have once played ``factor`` times as fast.

    Args:
        frames: ``(n,)`` integers, frames at the usual speed.
        factor: above 1 shortens.
        window: analysis window in frame shifts. A clip of F frames has less than
            ``F + window`` shifts of sound, hence ``floor((F + window) / factor - window) + 1``.
    """
    if factor == 1.0:
        return frames
    changed = np.floor((frames + window) / factor - window).astype(frames.dtype) + 1
    return np.where(frames > 0, np.maximum(changed, 1), frames)


def fewest(frames: int, factor: float, window: float) -> int:
    """Fewest frames that a clip of ``frames`` can have once played ``factor`` times as fast."""
    if factor == 1.0 or frames == 0:
        return frames
    return max(0, math.floor((frames - 1 + window) / factor - window))


def cut(order: np.ndarray, costs: Costs, config: BatchConfig) -> list[np.ndarray]:
    """Cut rows, in the given order, into the fewest batches that keep every bound.

    Args:
        order: row numbers; each alone must fit.
        costs: of all rows.
        config: bounds on padded frames, padded tokens and examples, and the multiple to which
            batch sizes are rounded down where more than one multiple fits.

    Returns:
        Slices of ``order``.
    """
    frames, tokens = costs.frames[order].astype(np.int64), costs.tokens[order].astype(np.int64)
    batches: list[np.ndarray] = []
    start, total = 0, len(order)
    window = 64
    while start < total:
        size = _fitting(frames[start : start + window], tokens[start : start + window], config)
        if size == window and start + window < total:
            window *= 2  # all of it fits: look further
            continue
        if size > config.multiple and start + size < total:
            size -= size % config.multiple
        batches.append(order[start : start + size])
        start += size
        window = max(64, size + size // 2)
    return batches


def _fitting(frames: np.ndarray, tokens: np.ndarray, config: BatchConfig) -> int:
    """How many of the first rows fit in one batch (at least one)."""
    counts = np.arange(1, len(frames) + 1)
    fits = np.ones(len(frames), dtype=bool)
    if config.max_frames is not None:
        fits &= np.maximum.accumulate(frames) * counts <= config.max_frames
    if config.max_tokens is not None:
        fits &= np.maximum.accumulate(tokens) * counts <= config.max_tokens
    if config.max_examples is not None:
        fits &= counts <= config.max_examples
    return max(1, int(fits.argmin()) if not fits.all() else len(fits))


def padding_share(batches: Sequence[np.ndarray], lengths: np.ndarray) -> float:
    """Share of padding in the padded elements of all batches, 0.0 to 1.0."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    real = sum(int(lengths[batch].sum()) for batch in batches)
    return 1.0 - real / padded if padded else 0.0


@dataclass(frozen=True)
class Epoch:
    """The batches of one epoch.

    Attributes:
        batches: row numbers of each batch, in order.
        costs: what rows cost at the speed drawn for them.
        speeds: ``(n,)`` speed factor of every row; None: all 1.
    """

    batches: list[np.ndarray]
    costs: Costs
    speeds: np.ndarray | None

    @property
    def padding(self) -> float:
        """Share of padding in the frames (in text streams: tokens) of all batches, 0 to 1."""
        return padding_share(self.batches, _lengths(self.costs))


class BatchPlan:
    """Which rows form which batch, for every epoch, rank and step: nothing is remembered.

    Args:
        costs: of all rows, at least one.
        config: bounds; every row alone must fit them at every speed.
        seed: of the run.
        stream: name of the stream.
        speeds: factors drawn alike for every row and epoch; empty for none.
        window: analysis window in frame shifts, for lengths after a change of speed.
    """

    def __init__(
        self,
        costs: Costs,
        config: BatchConfig,
        *,
        seed: int,
        stream: str,
        speeds: Sequence[float] = (),
        window: float = 2.5,
    ) -> None:
        self.costs, self.config = costs, config
        self.speeds, self.window = tuple(speeds), window
        self._key = (seed, random.key_of(stream))
        self._kept: OrderedDict[int, Epoch] = OrderedDict()
        self._starts: dict[int, list[int]] = {}  # world -> first step of each epoch known so far

    def epoch(self, number: int) -> Epoch:
        """The batches of epoch ``number`` (from 0), shuffled."""
        if number not in self._kept:
            self._kept[number] = self._make(number)
            while len(self._kept) > _KEPT_EPOCHS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _make(self, number: int) -> Epoch:
        draw = random.generator(random.ORDER, *self._key, number)
        costs, speeds = self.costs, None
        if self.speeds:
            chosen = random.generator(random.SPEED, *self._key, number).integers(
                0, len(self.speeds), size=len(costs)
            )
            speeds = np.asarray(self.speeds)[chosen]
            frames = costs.frames.copy()
            for i, factor in enumerate(self.speeds):
                frames[chosen == i] = faster(costs.frames[chosen == i], factor, self.window)
            costs = Costs(frames, costs.tokens, costs.groups)
        noise = draw.random(len(costs)) * np.log1p(JITTER)
        order = np.lexsort((np.log1p(_lengths(costs)) + noise, costs.groups))
        batches = [
            batch for part in _split(order, costs) for batch in cut(part, costs, self.config)
        ]
        shuffled = draw.permutation(len(batches))
        return Epoch([batches[i] for i in shuffled], costs, speeds)

    def once(self) -> list[np.ndarray]:
        """One pass for validation: sorted by length, not shuffled, usual speed."""
        order = np.lexsort((np.arange(len(self.costs)), _lengths(self.costs), self.costs.groups))
        parts = _split(order, self.costs)
        return [batch for part in parts for batch in cut(part, self.costs, self.config)]

    def locate(self, step: int, rank: int = 0, world: int = 1) -> tuple[int, int]:
        """Epoch and batch that rank ``rank`` of ``world`` takes in this stream's step ``step``.

        In step k of an epoch rank r takes batch ``k * world + r``; where the last step has too
        few, the first batches of the epoch are taken once more, so that no rank ever waits.
        """
        starts = self._starts.setdefault(world, [0])
        while starts[-1] <= step:
            batches = len(self.epoch(len(starts) - 1).batches)
            starts.append(starts[-1] + -(-batches // world))
        epoch = int(np.searchsorted(starts, step, side="right")) - 1
        index = (step - starts[epoch]) * world + rank
        return epoch, index % len(self.epoch(epoch).batches)

    def worst(self) -> list[np.ndarray]:
        """The batches that cost most: of the longest clips, and of the most tokens.

        Both are filled from the longest row downwards, at the slowest speed, and so come within
        one row of the bounds wherever there are enough rows.
        """
        frames = faster(self.costs.frames, min((*self.speeds, 1.0)), self.window)
        costs = Costs(frames, self.costs.tokens, self.costs.groups)
        worst: list[np.ndarray] = []
        for lengths in (costs.frames, costs.tokens):
            order = np.argsort(-lengths.astype(np.int64), kind="stable")
            if lengths[order[0]] > 0:
                group = costs.groups[order[0]]
                worst.append(cut(order[costs.groups[order] == group], costs, self.config)[0])
        return worst


def _lengths(costs: Costs) -> np.ndarray:
    """What batches are sorted by: frames where there is sound, tokens elsewhere."""
    return np.where(costs.frames > 0, costs.frames, costs.tokens)


def _split(order: np.ndarray, costs: Costs) -> list[np.ndarray]:
    """Cut rows sorted by group into one part a group."""
    groups = costs.groups[order]
    return np.split(order, np.flatnonzero(np.diff(groups)) + 1)
