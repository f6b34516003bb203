"""The demo's figures and examples, gathered from what the stages wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stk.data.manifest import read_manifest
from stk.errors import StkError

NEW = {
    "test": "phrases, numbers, voices",
    "test_seen": "voices",
    "test_template": "sentence pattern, voices",
    "test_engine": "speech engine, phrases, numbers",
}
"""Test set -> what of it training never had."""


@dataclass(frozen=True)
class Scored:
    """One test set: its scores in percent, with their signatures."""

    name: str
    clips: int
    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


@dataclass(frozen=True)
class Example:
    """One translation: what was said (and its sound), what it should become, what it became."""

    audio: Path
    source: str
    reference: str
    output: str


@dataclass(frozen=True)
class Summary:
    """Everything the demo prints at its end.

    Attributes:
        sets: scored test sets, in the order of NEW.
        left_out: test set -> why it was not made.
        real_time_factor: decoding seconds per second of sound, over all sets.
        training_minutes: wall clock, start-up and validation included.
        peak_mb: largest memory of training or decoding, worker processes included.
        examples: five translations of the set ``test``.
    """

    sets: tuple[Scored, ...]
    left_out: dict[str, str]
    real_time_factor: float
    training_minutes: float
    peak_mb: float
    examples: tuple[Example, ...]

    @property
    def speed(self) -> str:
        """Time and memory, in one line."""
        return (
            f"real-time factor {self.real_time_factor:.3f}, "
            f"training {self.training_minutes:.1f} minutes, "
            f"peak memory {self.peak_mb / 1000:.2f} GB"
        )


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        StkError: it is not there.
    """
    if not path.is_file():
        raise StkError("no such file", file=path, mend="run the stages before")
    return json.loads(path.read_text(encoding="utf-8"))


def scored(work: Path, name: str) -> Scored:
    """The scores of one set."""
    found = {row["name"]: row for row in read_json(work / "scores" / f"{name}.json")["scores"]}
    bleu, chrf = found["BLEU"], found["chrF2"]
    return Scored(
        name,
        bleu["sentences"],
        bleu["value"],
        chrf["value"],
        bleu["signature"],
        chrf["signature"],
    )


def five(work: Path) -> tuple[Example, ...]:
    """Five translations spread evenly over the set ``test``, good or bad."""
    lines = (work / "decoded" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    outputs = {row["id"]: row["text"] for row in map(json.loads, lines)}
    rows = read_manifest(work / "data" / "test.jsonl")
    chosen = rows[:: max(1, len(rows) // 5)][:5]
    return tuple(
        Example(row.audio, row.src_text, row.tgt_text, outputs[row.id])
        for row in chosen
        if row.audio and row.src_text and row.tgt_text
    )


def summarise(work: Path) -> Summary:
    """Gather the figures of a finished run of the recipe."""
    names = [name for name in NEW if (work / "data" / f"{name}.jsonl").is_file()]
    speeds = [read_json(work / "decoded" / f"{name}.json") for name in names]
    seconds, heard = (sum(s[key] for s in speeds) for key in ("seconds", "audio_seconds"))
    measured = [read_json(path) for path in sorted((work / "measured").glob("*.json"))]
    return Summary(
        sets=tuple(scored(work, name) for name in names),
        left_out=read_json(work / "data" / "corpus.json")["left_out"],
        real_time_factor=sum(s["seconds"] for s in speeds)
        / sum(s["audio_seconds"] for s in speeds),
        training_minutes=read_json(work / "measured" / "train.json")["seconds"] / 60,
        peak_mb=max(row["peak_mb"] for row in measured),
        examples=five(work),
    )


def table(summary: Summary) -> list[tuple[str, ...]]:
    """The scores of every set; the first row is the head."""
    rows: list[tuple[str, ...]] = [("test set", "new to the model", "clips", "BLEU", "chrF")]
    for row in summary.sets:
        rows.append((row.name, NEW[row.name], str(row.clips), f"{row.bleu:.1f}", f"{row.chrf:.1f}"))
    return rows


def as_text(summary: Summary, report: Path) -> str:
    """The summary as it is printed."""
    lines = [
        f"{name:<14} {new:<33} {clips:>5} {bleu:>6} {chrf:>6}"
        for name, new, clips, bleu, chrf in table(summary)
    ]
    lines += [f"{name:<14} left out: {why}" for name, why in summary.left_out.items()]
    first = summary.sets[0]
    lines += [f"BLEU: {first.bleu_signature}", f"chrF: {first.chrf_signature}", summary.speed, ""]
    for example in summary.examples:
        lines += [
            f"said:       {example.source}",
            f"reference:  {example.reference}",
            f"translated: {example.output}",
            "",
        ]
    return "\n".join([*lines, f"report with pictures: {report}"]) + "\n"
