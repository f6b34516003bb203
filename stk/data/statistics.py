"""What a manifest holds: counts, hours, languages, lengths."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stk.data.audio import audio_info
from stk.data.example import Example
from stk.data.vocab import Vocab

_BAR = 40
RESOURCES = {
    (True, False, False): "audio",
    (True, True, False): "asr",
    (True, False, True): "st",
    (True, True, True): "triple",
    (False, True, False): "text",
    (False, False, True): "text",
    (False, True, True): "mt",
    (False, False, False): "nothing",
}
"""(sound, source text, target text) -> name of the resource."""


@dataclass
class Statistics:
    """Counts over the rows of one or more manifests.

    Attributes:
        resources: rows of each resource (``audio``, ``text``, ``asr``, ``mt``, ``st``, ``triple``).
        pairs: rows of each language pair, ``?`` where none is given.
        speakers: rows of each speaker.
        files: distinct sound files.
        seconds: length of every clip.
        units: field -> length of every text in words, or in tokens where a vocabulary is given.
        unknown: unknown tokens, by field.
    """

    resources: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    speakers: Counter[str] = field(default_factory=Counter)
    files: set[Path] = field(default_factory=set)
    seconds: array[float] = field(default_factory=lambda: array("d"))
    units: dict[str, array[int]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    unit: str = "words"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.resources.values())

    @property
    def hours(self) -> float:
        """Hours of sound."""
        return sum(self.seconds) / 3600


def collect(examples: Iterable[Example], vocab: Vocab | None = None) -> Statistics:
    """Count over examples; headers are read where a duration is missing.

    Args:
        examples: consumed once.
        vocab: counts its tokens and unknowns instead of words.
    """
    found = Statistics(unit="words" if vocab is None else "tokens")
    for example in examples:
        texts = {"src_text": example.src_text, "tgt_text": example.tgt_text}
        has = [example.audio is not None, *(text is not None for text in texts.values())]
        found.resources[RESOURCES[(has[0], has[1], has[2])]] += 1
        found.pairs[f"{example.src_lang or '?'}-{example.tgt_lang or '?'}"] += 1
        if example.speaker is not None:
            found.speakers[example.speaker] += 1
        if example.audio is not None:
            found.files.add(example.audio)
            duration = example.duration
            if duration is None:
                duration = audio_info(example.audio).duration - example.start
            found.seconds.append(duration)
        for name, text in texts.items():
            if text is None:
                continue
            lengths = found.units.setdefault(name, array("i"))
            if vocab is None:
                lengths.append(len(text.split()))
            else:
                ids = vocab.encode(text)
                lengths.append(len(ids))
                found.unknown[name] += ids.count(vocab.unk)
    return found


def describe(found: Statistics) -> str:
    """The statistics as text, with histograms of lengths."""
    lines = [f"rows: {found.rows}  ({_counts(found.resources)})"]
    lines.append(f"languages: {_counts(found.pairs)}")
    if found.seconds:
        lines.append(f"sound: {found.hours:.2f} h in {len(found.files)} files")
        lines.append(f"speakers: {len(found.speakers) or 'not given'}")
    for name, lengths in found.units.items():
        total = sum(lengths)
        line = f"{name}: {total} {found.unit}, {total / len(lengths):.1f} a row"
        if found.unit == "tokens":
            line += f", {100 * found.unknown[name] / max(1, total):.2f} % unknown"
        lines.append(line)
    if found.seconds:
        lines += ["", *histogram(np.frombuffer(found.seconds), "seconds")]
    for name, lengths in found.units.items():
        values = np.frombuffer(lengths, dtype=np.int32)
        lines += ["", *histogram(values, f"{name}, {found.unit}")]
    return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    shown = [f"{name} {count}" for name, count in counter.most_common(20)]
    return ", ".join(shown) + (f", and {len(counter) - 20} more" if len(counter) > 20 else "")


def histogram(values: np.ndarray, title: str, bins: int = 12) -> list[str]:
    """A histogram in text: one line a bin, with count and bar, and the quantiles above."""
    marks = np.quantile(values, [0.0, 0.5, 0.95, 0.99, 1.0])
    names = ("least", "median", "95 %", "99 %", "most")
    quantiles = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, marks, strict=True))
    counts, edges = np.histogram(values, bins=bins)
    lines = [f"{title}: {quantiles}"]
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(_BAR * count / counts.max())
        lines.append(f"{low:9.2f} to {high:9.2f} {count:9d} {bar}")
    return lines


def plot(found: Statistics, path: str | Path) -> None:
    """Write the histograms as a PNG (needs matplotlib)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = {"seconds": np.frombuffer(found.seconds)} if found.seconds else {}
    for name, lengths in found.units.items():
        columns[f"{name}, {found.unit}"] = np.frombuffer(lengths, dtype=np.int32)
    figure = Figure(figsize=(4 * max(1, len(columns)), 3), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, values) in zip(
        np.atleast_1d(figure.subplots(1, max(1, len(columns)))), columns.items(), strict=False
    ):
        axes.hist(values, bins=40)
        axes.set_xlabel(title)
        axes.set_ylabel("rows")
    figure.savefig(path, format="png", dpi=120)
