"""A stream: manifests, one objective over them, and which of their rows it can use."""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stk.config.run import StreamConfig
from stk.data import rng as random
from stk.data.audio import audio_info, check_segment
from stk.data.batch import Batch, Item, Size
from stk.data.batching import BatchPlan, Costs, faster, fewest
from stk.data.example import FIELDS, Example
from stk.data.items import at_row, make_item
from stk.data.manifest import Manifest, SkipList
from stk.errors import StkError
from stk.features.speed import check_factor

if TYPE_CHECKING:
    from stk.objectives.base import CollateContext, Objective

Track = Callable[[Iterable[int]], Iterable[int]]
"""Wraps the loop over a manifest's rows to show progress; it must yield the same items."""


@dataclass(frozen=True)
class StreamReport:
    """What a stream uses and what it left out, known before step 1.

    Attributes:
        name: of the stream.
        kept: usable examples.
        dropped: reason -> number of examples left out.
        rows: one line ``file:row: id: reason`` for each of them.
        hours: of sound in the kept examples.
        tokens: of their longer text sides.
        batches: in one epoch of one process.
        padding: share of padding in the frames (or tokens) of one epoch, 0 to 1.
    """

    name: str
    kept: int
    dropped: dict[str, int]
    rows: list[str]
    hours: float
    tokens: int
    batches: int
    padding: float

    def lines(self) -> list[str]:
        """The report for people, without the single rows."""
        head = (
            f"{self.name}: {self.kept} examples, {self.hours:.2f} h, {self.tokens} tokens, "
            f"{self.batches} batches an epoch, {100 * self.padding:.1f} % padding"
        )
        return [head, *(f"{self.name}: left out {n}: {why}" for why, n in self.dropped.items())]


@dataclass
class _Survey:
    """Columns filled while the rows are looked at once."""

    manifests: array[int] = field(default_factory=lambda: array("h"))
    indices: array[int] = field(default_factory=lambda: array("i"))
    durations: array[float] = field(default_factory=lambda: array("d"))
    frames: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    groups: array[int] = field(default_factory=lambda: array("i"))
    codes: dict[tuple[object, ...], int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    rows: list[str] = field(default_factory=list)


class Stream:
    """The usable rows of some manifests under one objective, ready to be batched and loaded.

    Every row is looked at once on construction (its texts are measured, its header is read where
    the manifest gives no duration); 34 bytes a row stay in memory.

    Args:
        config: see :class:`~stk.config.run.StreamConfig`.
        objective: of this stream.
        context: vocabularies, front end, sidecars; ``augment`` is taken from ``config`` where
            ``context.training`` holds, and is None elsewhere.
        skip_bad: collects bad rows (and, later, unreadable sound) instead of raising.
        track: shows progress over the rows of each manifest.

    Raises:
        StkError: a bad row, a field the objective needs and a row lacks, a language whose tag a
            vocabulary lacks, a bad ``group_by`` or speed, or no usable example at all.
    """

    def __init__(
        self,
        config: StreamConfig,
        objective: Objective,
        context: CollateContext,
        *,
        skip_bad: SkipList | None = None,
        track: Track = iter,
    ) -> None:
        self.config, self.objective, self.skip_bad = config, objective, skip_bad
        augment = config.augment if context.training else None
        self.context = dataclasses.replace(context, augment=augment)
        self.speeds = tuple(augment.speed) if augment and objective.reads_audio else ()
        self._check()
        self._manifests = [Manifest(path, skip_bad=skip_bad) for path in config.manifests]
        survey = _Survey()
        for number, manifest in enumerate(self._manifests):
            for index in track(range(len(manifest))):
                self._look_at(survey, number, index, manifest[index])
        self._dropped, self._rows = survey.dropped, survey.rows
        self._labels = tuple(map(_label, survey.codes))
        if not survey.frames:
            reasons = "; ".join(f"{n} {why}" for why, n in survey.dropped.items())
            raise StkError(
                f"stream {self.name}: no example is left", mend=reasons or "check its manifests"
            )
        self._which = np.frombuffer(survey.manifests, dtype=np.int16)
        self._indices = np.frombuffer(survey.indices, dtype=np.int32)
        self._durations = np.frombuffer(survey.durations, dtype=np.float64)
        self.costs = Costs(
            np.frombuffer(survey.frames, dtype=np.int32),
            np.frombuffer(survey.tokens, dtype=np.int32),
            np.frombuffer(survey.groups, dtype=np.int32),
        )

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.config.name

    def __len__(self) -> int:
        """Usable examples."""
        return len(self.costs)

    @property
    def digest(self) -> str:
        """Hexadecimal, of what its batches follow from: manifests, usable rows and their costs."""
        content = hashlib.blake2b(digest_size=16)
        for manifest in self._manifests:
            content.update(manifest.digest.encode())
        costs = self.costs
        for column in (self._which, self._indices, costs.frames, costs.tokens, costs.groups):
            content.update(column.tobytes())
        return content.hexdigest()

    def group(self, rows: np.ndarray) -> str:
        """What the rows of a batch share by ``group_by``, such as ``de-en``; empty without it."""
        return self._labels[int(self.costs.groups[rows[0]])]

    @property
    def window(self) -> float:
        """Analysis window in frame shifts."""
        return self.context.frontend.window if self.context.frontend is not None else 0.0

    def _check(self) -> None:
        for factor in self.speeds:
            check_factor(factor)
        for key in self.config.group_by:
            if key not in FIELDS and key != "fields":
                raise StkError(
                    f"stream {self.name}: group_by knows no {key!r}",
                    mend=f"one of fields, {', '.join(FIELDS)}",
                )
        if self.objective.reads_audio and self.context.frontend is None:
            raise StkError(f"stream {self.name} reads sound", mend="add features to the run")

    def _look_at(self, survey: _Survey, number: int, index: int, example: Example) -> None:
        """Measure one row and take it in, or note why not."""
        try:
            self.objective.require(example)
            example = self._timed(example)
            size = self.objective.size(example, self.context)
        except StkError as error:
            error = at_row(error, example)
            if self.skip_bad is None:
                raise error from None
            self.skip_bad.add(error)
            return
        reason = self._reason(example, size)
        if reason is not None:
            survey.dropped[reason.partition(":")[0]] += 1
            survey.rows.append(f"{example.file}:{example.row}: {example.id}: {reason}")
            return
        key = tuple(
            example.present if name == "fields" else getattr(example, name)
            for name in self.config.group_by
        )
        survey.manifests.append(number)
        survey.indices.append(index)
        survey.durations.append(example.duration or 0.0)
        survey.frames.append(size.frames)
        survey.tokens.append(size.tokens)
        survey.groups.append(survey.codes.setdefault(key, len(survey.codes)))

    def _timed(self, example: Example) -> Example:
        """The example with its duration, from the header where the manifest has none."""
        if not self.objective.reads_audio or example.duration is not None or not example.audio:
            return example
        info = audio_info(example.audio)
        check_segment(example.audio, info, example.start, None)
        return dataclasses.replace(example, duration=info.duration - example.start)

    def _reason(self, example: Example, size: Size) -> str | None:
        """Why this row cannot be used at some speed, or None. Text before a colon is the kind."""
        config, batch = self.config, self.config.batch
        slowest = int(faster(np.array([size.frames]), min((*self.speeds, 1.0)), self.window)[0])
        if self.objective.reads_audio and size.frames < config.min_frames:
            return f"shorter than min_frames {config.min_frames}: {size.frames} frames"
        if size.frames > config.max_frames:
            return f"longer than max_frames {config.max_frames}: {size.frames} frames"
        if size.tokens > config.max_tokens:
            return f"more than max_tokens {config.max_tokens}: {size.tokens} tokens"
        most = self.context.max_positions
        if most is not None and size.tokens > most:
            read = self.objective.positions(example, size, self.context)
            if read > most:
                return f"more than the model's max_positions {most}: {read} tokens"
        if batch.max_frames is not None and slowest > batch.max_frames:
            return f"alone exceeds batch.max_frames {batch.max_frames}: {slowest} frames"
        if batch.max_tokens is not None and size.tokens > batch.max_tokens:
            return f"alone exceeds batch.max_tokens {batch.max_tokens}: {size.tokens} tokens"
        fastest = fewest(size.frames, max((*self.speeds, 1.0)), self.window)
        return self.objective.refuse(
            example, Size(frames=fastest, tokens=size.tokens), self.context
        )

    def example(self, row: int) -> Example:
        """A usable row (0 to len - 1), its duration filled in where sound is read."""
        example = self._manifests[int(self._which[row])][int(self._indices[row])]
        if example.duration is None and self.objective.reads_audio:
            return dataclasses.replace(example, duration=float(self._durations[row]))
        return example

    def item(self, row: int, *, seed: int, epoch: int, speed: float = 1.0) -> Item:
        """Load one row; its generator is a function of (seed, stream, epoch, manifest row)."""
        draw = random.generator(
            random.ROW,
            seed,
            random.key_of(self.name),
            epoch,
            int(self._which[row]),
            int(self._indices[row]),
        )
        frontend = self.context.frontend if self.objective.reads_audio else None
        return make_item(self.example(row), frontend, rng=draw, speed=speed)

    def load(
        self, rows: np.ndarray, *, seed: int, epoch: int, speeds: np.ndarray | None = None
    ) -> tuple[Batch | None, list[StkError]]:
        """Load and collate rows.

        Args:
            rows: ``(n,)`` integers, usable rows.
            seed: of the run.
            epoch: of the stream.
            speeds: ``(n,)`` factors; None: all 1.

        Returns:
            The batch and what was left out of it. Without ``skip_bad`` nothing is left out;
            with it the batch is None if no row was readable.

        Raises:
            StkError: an unreadable row, unless ``skip_bad`` was given.
        """
        items, errors = [], []
        for place, row in enumerate(rows):
            speed = 1.0 if speeds is None else float(speeds[place])
            try:
                items.append(self.item(int(row), seed=seed, epoch=epoch, speed=speed))
            except StkError as error:
                if self.skip_bad is None:
                    raise
                errors.append(error)
        return (self.objective.collate(items, self.context) if items else None), errors

    def plan(self, seed: int) -> BatchPlan:
        """The order of this stream's batches under a run's seed."""
        return BatchPlan(
            self.costs,
            self.config.batch,
            seed=seed,
            stream=self.name,
            speeds=self.speeds,
            window=self.window,
        )

    def report(self) -> StreamReport:
        """What is used, what was left out and why, and how much padding batching leaves."""
        epoch = self.plan(0).epoch(0)
        return StreamReport(
            name=self.name,
            kept=len(self),
            dropped=dict(self._dropped),
            rows=list(self._rows),
            hours=float(self._durations.sum()) / 3600 if self.objective.reads_audio else 0.0,
            tokens=int(self.costs.tokens.sum(dtype=np.int64)),
            batches=len(epoch.batches),
            padding=epoch.padding,
        )


def _label(key: tuple[object, ...]) -> str:
    """A group's name: its values with hyphens, the set of fields with plus signs."""
    parts = ("+".join(sorted(part)) if isinstance(part, frozenset) else str(part) for part in key)
    return "-".join(parts)
