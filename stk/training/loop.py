"""The training run: from a configuration to checkpoints."""

from __future__ import annotations

import gc
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stk.config.run import RunConfig
from stk.data.atomic import write_text
from stk.data.loader import Loader
from stk.errors import StkError
from stk.training.assemble import Generate, TrackRows, load_data
from stk.training.distributed import Workers, join
from stk.training.keep import Keeper
from stk.training.learner import Learner, Step
from stk.training.reporter import Reporter
from stk.training.resume import find_start
from stk.training.signals import StopRequest
from stk.training.validation import HIGHER_IS_BETTER, Scorer
from stk.training.window import Losses


@dataclass(frozen=True)
class Result:
    """How a call ended.

    Attributes:
        update: updates done.
        reason: why it stopped, for people.
        signal: number of the signal that stopped it, or 0.
    """

    update: int
    reason: str
    signal: int = 0


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    validate_decoded: Scorer | None = None,
    generate: Generate | None = None,
    track: TrackRows | None = None,
) -> Result:
    """Train, or go on training, until the first limit of the configuration is reached.

    Every process of a run calls it; ``torchrun`` starts several. If ``config.output`` holds
    checkpoints of the same configuration, the run goes on from the newest, and every later loss
    is what it would have been without the interruption.

    Args:
        config: the run.
        resume: go on although the configuration differs, which then holds from here on.
        validate_decoded: decodes and scores; needed where ``validation.decode_manifest`` is set.
        generate: offered to objectives as ``context.generate``.
        track: shows progress while the manifests' rows are looked at, in the main process.

    Raises:
        StkError: whatever the user can mend.
    """
    if config.validation.decode_manifest is not None and validate_decoded is None:
        raise StkError("validation.decode_manifest is set, but no decoder was handed to train()")
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    workers = join(config.training.device)
    with StopRequest() as stop:
        run = _Run(config, workers, stop, resume, validate_decoded, generate, track)
        try:
            result = run.go()
        finally:
            run.reporter.close()
    del run
    gc.collect()  # DDP goes before the process group it holds
    workers.close()  # not after an error: the others may no longer be there
    return result


@dataclass
class _Meter:
    """What happened since the last line of the log."""

    losses: Losses = field(default_factory=Losses)
    loss: float = 0.0
    done: int = 0
    updates: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, step: Step, seconds: float, waited: float) -> None:
        """Take in one update; a skipped one counts in time alone."""
        self.updates += 1
        self.seconds += seconds
        self.waited += waited
        if step.skipped_ids is None:
            self.losses.merge(step.losses)
            self.loss += step.loss
            self.done += 1

    @property
    def waiting_share(self) -> float:
        """Share of the time spent waiting for input, 0 to 1."""
        return min(1.0, self.waited / max(self.seconds, 1e-9))


class _Run:
    """One call of :func:`train`."""

    def __init__(
        self,
        config: RunConfig,
        workers: Workers,
        stop: StopRequest,
        resume: bool,
        scorer: Scorer | None,
        generate: Generate | None,
        track: TrackRows | None,
    ) -> None:
        self.config, self.workers, self.stop = config, workers, stop
        self.began = time.monotonic()
        self.by = config.validation.by
        self.better_up = HIGHER_IS_BETTER[self.by]
        self.output = Path(config.output)
        self.keeper = Keeper(self.output, config.checkpoint, higher_is_better=self.better_up)
        start, differing = workers.on_main(lambda: find_start(config, self.keeper, resume))
        self.data = load_data(config, workers, track)
        self.learner = Learner(
            config,
            self.data,
            workers,
            start=start,
            scorer=scorer,
            generate=generate,
            lenient=resume,
        )
        self.progress = self.learner.progress
        self.before = self.progress.seconds
        self.keeper.scores = dict(self.progress.scores)
        workers.on_main(self.keeper.hold)
        workers.on_main(self.keeper.clean)
        self.loader = self._loader()
        self.meter, self.overall = _Meter(), _Meter()
        self.reporter = Reporter(
            self.output, self.progress.update, config.training.max_updates, workers.is_main
        )
        self._introduce(start, differing)

    def _loader(self) -> Loader:
        return Loader(
            self.data.streams,
            self.config.mixing,
            seed=self.config.seed,
            rank=self.workers.rank,
            world=self.workers.world,
            workers=self.config.training.workers,
            start_step=self.progress.micro_step,
            pin_memory=self.workers.device.type == "cuda",
        )

    def _introduce(self, start: Path | None, differing: list[str]) -> None:
        """Say what is trained on what, before anything is computed."""
        say = self.reporter.say
        if start is not None:
            say(f"going on from {start}")
        if differing:
            say(f"settings that differ from before: {', '.join(differing)}")
        for line in self.learner.describe():
            say(line)
        left_out: list[str] = []
        for stream in (*self.data.streams, *self.data.validation):
            report = stream.report()
            left_out += report.rows
            for line in report.lines():
                say(line)
        if left_out and self.workers.is_main:
            path = self.output / "left_out.txt"
            write_text(path, "".join(f"{row}\n" for row in left_out))
            say(f"examples left out are listed in {path}")
        self._write_skipped_rows()

    def _write_skipped_rows(self) -> None:
        if self.data.skipped is not None:
            self.data.skipped.write()

    def _say_skipped_rows(self) -> None:
        """How many rows could not be read, in any process; every process calls it."""
        skipped = self.data.skipped
        if skipped is None:
            return
        self._write_skipped_rows()
        rows = {str(error) for errors in self.workers.gather(skipped.errors) for error in errors}
        if rows:
            self.reporter.say(f"{len(rows)} bad rows were left out, listed in {skipped.path}")

    def go(self) -> Result:
        """Train until a limit or a signal."""
        over = self._limit()
        number = 0
        if over is None:
            if self.config.training.worst_batch_first:
                self.learner.try_worst(self.loader.worst_batches())
            over, number = self._train()
            self.reporter.say(
                f"waited for input {100 * self.overall.waiting_share:.1f}% of "
                f"{self.overall.seconds:.0f} s"
            )
        self._say_skipped_rows()
        self.reporter.say(f"stopped after update {self.progress.update}: {over}")
        return Result(self.progress.update, over, number)

    def _train(self) -> tuple[str, int]:
        batches = iter(self.loader)
        while True:
            began, waited = time.monotonic(), self.loader.waited
            window = [next(batches) for _ in range(self.config.training.accumulate)]
            step = self.learner.update(window, self._wishes())
            seconds = time.monotonic() - began
            for meter in (self.meter, self.overall):
                meter.add(step, seconds, self.loader.waited - waited)
            self.progress.seconds = self.before + time.monotonic() - self.began
            self.reporter.advance(self.progress.update)
            if step.skipped_ids is not None:
                self._skipped(step.skipped_ids)
            over, number = self._asked(step)
            over = self._after(step, over or self._limit(), number)
            if over is not None:
                return over, number

    def _wishes(self) -> dict[str, float]:
        """What this process would stop for; the sums over processes decide for all."""
        limit = self.config.training.max_minutes
        spent = (self.before + time.monotonic() - self.began) / 60
        return {
            "sigterm": float(self.stop.number == signal.SIGTERM),
            "sigint": float(self.stop.number == signal.SIGINT),
            "late": float(self.workers.is_main and limit is not None and spent >= limit),
        }

    def _asked(self, step: Step) -> tuple[str | None, int]:
        """Whether a signal or the clock ends the run: the reason, and the signal's number."""
        for name, number in (("sigterm", signal.SIGTERM), ("sigint", signal.SIGINT)):
            if step.wishes[name]:
                return f"signal {number.name}; the same command goes on from here", int(number)
        return ("max_minutes is reached" if step.wishes["late"] else None), 0

    def _limit(self) -> str | None:
        """Why the run is over, or None; the same in every process."""
        training, patience = self.config.training, self.config.validation.patience
        if self.progress.update >= training.max_updates:
            return "max_updates is reached"
        if training.max_epochs is not None and self._epoch() >= training.max_epochs:
            return "max_epochs is reached"
        if patience is not None and self.progress.stale >= patience:
            return f"no better validation in {self.progress.stale} turns"
        return None

    def _epoch(self) -> int:
        """Whole epochs that every stream has behind it."""
        return min(self.loader.epochs(self.progress.micro_step).values())

    def _after(self, step: Step, over: str | None, number: int) -> str | None:
        """Log, validate and save where it is time; return why the run is over, or None."""
        update, config = self.progress.update, self.config
        if update % config.training.log_every == 0 or over is not None:
            self._log(step)
        figures: dict[str, float] = {}
        best = False
        ending = over is not None and not number  # a signal leaves no time to validate
        if config.validation.wanted and (update % config.validation.every == 0 or ending):
            figures = self.learner.validate()
            self.reporter.validated(update, figures)
            best = self.keeper.rank(update, figures[self.by])
            self.progress.scores = dict(self.keeper.scores)
            self.progress.judged(figures[self.by], higher_is_better=self.better_up)
            over = over or self._limit()
        if best or over is not None or update % config.checkpoint.every == 0:
            contents = self.learner.contents(figures)
            self.workers.on_main(lambda: str(self.keeper.save(update, contents)))
            self._write_skipped_rows()
        return over

    def _log(self, step: Step) -> None:
        meter = self.meter
        losses = meter.losses.gathered(self.workers, counts=False)
        values: dict[str, Any] = {
            "epoch": self._epoch(),
            "loss": meter.loss / meter.done if meter.done else float("nan"),
            **losses.means(),
            "lr": step.rate,
            "grad_norm": step.norm,
            "skipped": self.progress.skipped,
            "updates_per_second": meter.updates / max(meter.seconds, 1e-9),
            "waiting_share": meter.waiting_share,
            "seconds": round(self.progress.seconds, 3),
        }
        if self.workers.device.type == "cuda":
            values["memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
        self.reporter.trained(self.progress.update, values)
        self.meter = _Meter()

    def _skipped(self, ids: list[str]) -> None:
        """Write down whose update was skipped; give up after too many in a row."""
        path = self.output / "skipped_updates.txt"
        if self.workers.is_main:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{self.progress.update}\t{' '.join(ids)}\n")
        self.reporter.say(
            f"update {self.progress.update} skipped, its loss or gradient is not finite; its "
            f"examples are listed in {path}"
        )
        most = self.config.training.max_skips
        if self.progress.skipped_in_row >= most:
            raise StkError(
                f"{most} updates in a row were not finite",
                file=path,
                mend="lower optim.lr, lengthen the warm-up, or look at the examples listed",
            )
