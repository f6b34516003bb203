"""The strips that pictures of a clip are made of, over one time axis in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float32]
Runs = NDArray[np.int64]
LABELS_SHOWN = 0.2
"""Labels whose CTC posterior reaches this somewhere get a curve."""


def draw_spectrogram(
    axes: Axes, frames: Array, seconds: float, cmap: str, alpha: float = 1.0
) -> None:
    """``(T, M)`` log-mel frames."""
    extent = (0, seconds, 0, frames.shape[1])
    axes.imshow(frames.T, origin="lower", aspect="auto", extent=extent, cmap=cmap, alpha=alpha)
    axes.set(xlabel="seconds", ylabel="mel band")


def draw_spikes(axes: Axes, ctc: Array, pieces: Sequence[str], seconds: float) -> None:
    """CTC posteriors ``(T, V)`` of the labels that are likely somewhere; the first is the blank."""
    axes.set(ylabel="CTC posterior", ylim=(0, 1.25))
    times = (np.arange(len(ctc)) + 0.5) * seconds / len(ctc)
    axes.plot(times, ctc[:, 0], color="tab:gray", linestyle=":", label="blank")
    reached = ctc.max(axis=0)
    for index in map(int, np.flatnonzero(reached >= LABELS_SHOWN)):
        if index == 0:
            continue
        (line,) = axes.plot(times, ctc[:, index], linewidth=1.4)
        for peak in _peaks(ctc[:, index]):
            axes.annotate(
                pieces[index],
                (times[peak], ctc[peak, index]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=line.get_color(),
                bbox={"color": "white", "alpha": 0.7, "pad": 0.3},
                parse_math=False,
            )
    axes.legend(loc="upper right", fontsize=8)


def draw_segments(axes: Axes, segments: Runs, labels: Sequence[str], seconds: float) -> None:
    """The runs of frames that became one state each, with their labels.

    Args:
        axes: to draw on.
        segments: ``(T,)`` the state of every frame, -1 for none.
        labels: of every frame.
        seconds: length of the clip.
    """
    step = seconds / len(segments)
    count = int(segments.max(initial=-1)) + 1
    for segment in range(count):
        frames = np.flatnonzero(segments == segment)
        begin, end = frames[0] * step, (frames[-1] + 1) * step
        axes.axvspan(begin, end, color=f"C{segment % 10}", alpha=0.6)
        axes.text(
            (begin + end) / 2,
            0.5,
            labels[frames[0]],
            rotation=90,
            ha="center",
            va="center",
            fontsize=8,
            parse_math=False,
        )
    axes.set(ylim=(0, 1), yticks=[])
    share = f"{count} of {len(segments)}"
    axes.set_ylabel(f"states\n{share}", rotation=0, ha="right", va="center")


def edges(segments: Sequence[int] | Runs, seconds: float) -> list[float]:
    """Where the states begin, in seconds, and where the last one ends: one more than states.

    Args:
        segments: ``(T,)`` the state of every frame, from 0 on in order, -1 for none.
        seconds: length of the clip.
    """
    runs = np.asarray(segments)
    firsts = [int(np.flatnonzero(runs == s)[0]) for s in range(int(runs.max(initial=-1)) + 1)]
    return [first * seconds / len(runs) for first in firsts] + [seconds]


def _peaks(curve: NDArray[Any]) -> list[int]:
    """Where a curve is highest within each run of frames above the threshold."""
    above = np.flatnonzero(curve >= LABELS_SHOWN)
    runs = np.split(above, np.flatnonzero(np.diff(above) > 1) + 1)
    return [int(run[curve[run].argmax()]) for run in runs if len(run)]
