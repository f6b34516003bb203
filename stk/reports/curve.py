"""The learning curve of a run, from its ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk.errors import StkError
from stk.training.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("bleu", "chrf", "wer")
"""Figures of decoded validation, in percent."""


def learning_curve(run: str | Path) -> Figure:
    """Loss in training and validation, and decoded scores, over updates.

    Args:
        run: a run's output directory.

    Raises:
        StkError: the run has written no figures yet.
    """
    from matplotlib.figure import Figure

    file = Path(run) / "metrics.jsonl"
    lines = read_metrics(file)
    if not lines:
        raise StkError("no figures of training", file=file, mend="stk-train writes them")
    train = [line for line in lines if line["kind"] == "train"]
    valid = [line for line in lines if line["kind"] == "valid"]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    losses = figure.add_subplot()
    losses.set(xlabel="update", ylabel="loss")
    losses.plot(*_series(train, "loss"), color="tab:blue", linewidth=1, label="training loss")
    if any("loss" in line for line in valid):
        losses.plot(*_series(valid, "loss"), "o-", color="tab:orange", label="validation loss")
    losses.grid(alpha=0.3)
    handles, labels = losses.get_legend_handles_labels()
    shown = [name for name in SCORES if any(line.get(name) is not None for line in valid)]
    if shown:
        scores = losses.twinx()
        scores.set(ylabel="score in %", ylim=(0, 100))
        for name, color in zip(SCORES, ("tab:green", "tab:olive", "tab:red"), strict=True):
            if name in shown:
                scores.plot(*_series(valid, name), "s--", color=color, markersize=4, label=name)
        more = scores.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _series(lines: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Updates and values; values that were not finite (null) are left out."""
    kept = [(line["update"], line[name]) for line in lines if line.get(name) is not None]
    return [update for update, _ in kept], [value for _, value in kept]
