"""What a run shows: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stk.training.metrics import MetricsFile


class Reporter:
    """Writes figures and tells how far the run is, on standard error.

    Args:
        output: the run's directory.
        update: updates done already.
        total: updates wanted.
        active: only the main process reports; others pass False and every call does nothing.
    """

    def __init__(self, output: Path, update: int, total: int, active: bool) -> None:
        self.total, self.active = total, active
        self._bar: Progress | None = None
        if not active:
            return
        self._metrics = MetricsFile(output, update)
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("training", total=total, completed=update, figures="")
            self._bar.start()

    def say(self, text: str) -> None:
        """Print one line."""
        if not self.active:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def advance(self, update: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=update)

    def trained(self, update: int, values: Mapping[str, Any]) -> None:
        """Note the figures of the updates since the last call."""
        if not self.active:
            return
        self._metrics.write("train", update, values)
        figures = summary(values)
        if self._bar is not None:
            self._bar.update(self._task, completed=update, figures=figures)
        else:
            left = (self.total - update) / max(values["updates_per_second"], 1e-9)
            self.say(f"update {update}/{self.total} {figures} left {_clock(left)}")

    def validated(self, update: int, values: Mapping[str, Any]) -> None:
        """Note the figures of a validation."""
        if self.active:
            self._metrics.write("valid", update, values)
            figures = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.say(f"validation at update {update}: {figures}")

    def close(self) -> None:
        """Stop the bar and close the files."""
        if not self.active:
            return
        if self._bar is not None:
            self._bar.stop()
        self._metrics.close()


def summary(values: Mapping[str, Any]) -> str:
    """The figures worth a glance, on one line."""
    return (
        f"epoch {values['epoch']} loss {values['loss']:.4f} lr {values['lr']:.3g} "
        f"norm {values['grad_norm']:.3g} {values['updates_per_second']:.2f} upd/s "
        f"waiting {100 * values['waiting_share']:.1f}%"
    )


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
