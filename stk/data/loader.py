"""The loader: micro-batches of all streams, forever, from any micro-step on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from stk.config.run import MixingConfig
from stk.data.batch import Batch
from stk.data.mixing import Mixing, shares
from stk.data.stream import Stream
from stk.errors import StkError

_REPLACEMENTS = 20
"""How many further batches are tried where nothing of a batch can be read."""


@dataclass(frozen=True, kw_only=True)
class BatchInfo:
    """Where a micro-batch comes from and what it costs.

    Attributes:
        micro_step: of the run, from 0.
        epoch: of the stream, from 0.
        step: of the stream, from 0.
        examples: in the batch.
        frames: real 10 ms frames, at the speeds drawn.
        padded_frames: batch size times the longest clip's frames.
        seconds: spent on loading and collating it.
        skipped: rows left out since they could not be read (under ``skip_bad``).
        group: in :func:`one_pass`, what the examples share by the stream's ``group_by``.
    """

    micro_step: int
    epoch: int
    step: int
    examples: int
    frames: int
    padded_frames: int
    seconds: float = 0.0
    skipped: tuple[StkError, ...] = ()
    group: str = ""


class MicroBatch(NamedTuple):
    """One micro-batch: the stream's name, its objective's batch, and where it comes from."""

    stream: str
    batch: Batch
    info: BatchInfo


@dataclass(frozen=True)
class _Job:
    """What a worker is asked for."""

    stream: int
    rows: np.ndarray
    speeds: np.ndarray | None
    seed: int
    info: BatchInfo


@dataclass(frozen=True)
class _Done:
    """What a worker answers: a batch, or the error that the parent raises."""

    job: _Job
    batch: Batch | None
    error: StkError | None = None
    skipped: tuple[StkError, ...] = ()
    seconds: float = 0.0

    def pin_memory(self) -> _Done:
        """The same with the batch in page-locked memory."""
        batch = None if self.batch is None else self.batch.pin_memory()
        return dataclasses.replace(self, batch=batch)


class _Jobs(Dataset[_Done]):
    """Turns jobs into batches, within worker processes."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.streams = streams

    def __getitem__(self, job: _Job) -> _Done:
        began = time.perf_counter()
        stream = self.streams[job.stream]
        try:
            batch, skipped = stream.load(
                job.rows, seed=job.seed, epoch=job.info.epoch, speeds=job.speeds
            )
        except StkError as error:  # a value, since workers would wrap what they raise
            return _Done(job, None, error)
        return _Done(job, batch, None, tuple(skipped), time.perf_counter() - began)


def _run(
    streams: Sequence[Stream], jobs: Iterable[_Job], workers: int, pin: bool, prefetch: int
) -> Iterator[_Done]:
    """Work off jobs in order, in this process or in workers."""
    loader: DataLoader[_Done] = DataLoader(
        _Jobs(streams),
        batch_size=None,
        sampler=jobs,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        multiprocessing_context="fork" if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # or torch's own generator would lose a draw
    )
    done = iter(loader)
    while True:
        try:
            yield next(done)
        except StopIteration:
            return
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise StkError(
                f"a loading worker was killed: {error}",
                mend="often for want of memory: lower training.workers or the batch size",
            ) from None


def _describe(
    frames: np.ndarray, rows: np.ndarray, micro_step: int, epoch: int, step: int
) -> BatchInfo:
    frames = frames[rows]
    return BatchInfo(
        micro_step=micro_step,
        epoch=epoch,
        step=step,
        examples=len(rows),
        frames=int(frames.sum()),
        padded_frames=len(rows) * int(frames.max()),
    )


class Loader:
    """Micro-batches of a run: iterate for :class:`MicroBatch` without end.

    Which rows come when is a pure function of (seed, micro-step, rank, world); the number of
    workers changes nothing, and starting at a later micro-step reads no data before it. All ranks
    take the same stream in the same micro-step, and different batches of it.

    Args:
        streams: of the run, all with ``context.training``.
        mixing: rule by which streams are drawn.
        seed: of the run.
        rank: of this process.
        world: number of processes.
        workers: loading processes beside this one; 0 loads here.
        start_step: micro-step to begin with.
        pin_memory: put batches into page-locked memory for a GPU.
        prefetch: batches that each worker prepares ahead.

    Attributes:
        waited: seconds the consumer has waited for batches, the first one excepted.
        startup: seconds until the first batch was there.
        micro_step: next micro-step to be handed out.

    Raises:
        StkError: while iterating, what a worker found wrong with a row.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        mixing: MixingConfig,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        start_step: int = 0,
        pin_memory: bool = False,
        prefetch: int = 4,
    ) -> None:
        self.streams = list(streams)
        weights = [stream.config.weight for stream in streams]
        sizes = [len(stream) for stream in streams]
        self.shares = shares(mixing, weights, sizes)
        self._mixing = Mixing(self.shares, seed)
        self._plans = [stream.plan(seed) for stream in streams]
        self._seed, self._rank, self._world = seed, rank, world
        self._workers, self._pin, self._prefetch = workers, pin_memory, prefetch
        self.micro_step = start_step
        self.waited = self.startup = 0.0

    @property
    def state(self) -> dict[str, int]:
        """What resuming needs: pass ``micro_step`` as ``start_step``."""
        return {"micro_step": self.micro_step}

    def epochs(self, micro_step: int | None = None) -> dict[str, int]:
        """Whole epochs that every stream has behind it before a micro-step (None: the next)."""
        at = self.micro_step if micro_step is None else micro_step
        counts = self._mixing.before(at)
        return {
            stream.name: plan.locate(int(counts[i]), 0, self._world)[0]
            for i, (stream, plan) in enumerate(zip(self.streams, self._plans, strict=True))
        }

    def _job(self, micro_step: int, later: int = 0) -> _Job:
        """The job of a micro-step, or of the ``later``-th batch after it in the same epoch."""
        number, step = self._mixing.at(micro_step)
        plan = self._plans[number]
        epoch, index = plan.locate(step, self._rank, self._world)
        made = plan.epoch(epoch)
        rows = made.batches[(index + later) % len(made.batches)]
        speeds = None if made.speeds is None else made.speeds[rows]
        info = _describe(made.costs.frames, rows, micro_step, epoch, step)
        return _Job(number, rows, speeds, self._seed, info)

    def _jobs(self) -> Iterator[_Job]:
        micro_step = self.micro_step
        while True:
            yield self._job(micro_step)
            micro_step += 1

    def __iter__(self) -> Iterator[MicroBatch]:
        done = _run(self.streams, self._jobs(), self._workers, self._pin, self._prefetch)
        first = True
        while True:
            began = time.perf_counter()
            answer = next(done)
            batch = self._finish(answer)
            waited = time.perf_counter() - began
            if first:
                self.startup, first = waited, False
            else:
                self.waited += waited
            self.micro_step = answer.job.info.micro_step + 1
            yield batch

    def _finish(self, done: _Done) -> MicroBatch:
        """Raise what went wrong; replace a batch of which nothing could be read."""
        skipped = list(done.skipped)
        for later in range(1, _REPLACEMENTS + 1):
            if done.batch is not None or done.error is not None:
                break
            done = _Jobs(self.streams)[self._job(done.job.info.micro_step, later)]
            skipped += done.skipped
        return _micro_batch(self.streams, done, skipped)

    def worst_batches(self) -> list[MicroBatch]:
        """The costliest batches of every stream, to be tried before step 1 (loaded here)."""
        found = []
        for number, (stream, plan) in enumerate(zip(self.streams, self._plans, strict=True)):
            for rows in plan.worst():
                slow = np.full(len(rows), min(stream.speeds, default=1.0))
                job = _Job(
                    number, rows, slow, self._seed, _describe(stream.costs.frames, rows, 0, 0, 0)
                )
                done = _Jobs(self.streams)[job]
                if done.batch is None and done.error is None:
                    continue  # all of it is unreadable and skipped: training never meets it
                found.append(_micro_batch(self.streams, done, list(done.skipped)))
        return found


def _micro_batch(streams: Sequence[Stream], done: _Done, skipped: Sequence[StkError]) -> MicroBatch:
    stream = streams[done.job.stream]
    if done.error is not None:
        raise done.error
    for error in skipped:
        if stream.skip_bad is not None:
            stream.skip_bad.add(error)
    if done.batch is None:
        raise StkError(
            f"stream {stream.name}: nothing of {_REPLACEMENTS} batches in turn can be read",
            mend=f"stk-data validate; the first: {skipped[0] if skipped else ''}",
        )
    info = dataclasses.replace(
        done.job.info,
        examples=len(done.batch.ids),
        seconds=done.seconds,
        skipped=tuple(skipped),
    )
    return MicroBatch(stream.name, done.batch, info)


def one_pass(
    stream: Stream,
    *,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    seed: int = 0,
) -> Iterator[MicroBatch]:
    """Every usable row once, sorted by length, for validation and decoding.

    Rank r takes batches r, r + world, ...; together the ranks see each row exactly once, so some
    may get a batch fewer (or none). A batch that cannot be read under ``skip_bad`` is left out.

    Args:
        stream: with ``context.training`` False.
        rank: of this process.
        world: number of processes.
        workers: loading processes beside this one.
        pin_memory: put batches into page-locked memory.
        seed: of the rows' generators, for objectives that mask in validation too.

    Raises:
        StkError: what is wrong with a row.
    """

    def jobs() -> Iterator[_Job]:
        for step, rows in enumerate(stream.plan(seed).once()[rank::world]):
            info = _describe(stream.costs.frames, rows, step, 0, step)
            info = dataclasses.replace(info, group=stream.group(rows))
            yield _Job(0, rows, None, seed, info)

    for done in _run([stream], jobs(), workers, pin_memory, 2):
        if done.batch is None and done.error is None and stream.skip_bad is not None:
            for error in done.skipped:
                stream.skip_bad.add(error)
            continue
        yield _micro_batch([stream], done, list(done.skipped))
