"""Clips, manifests and a toy objective for the tests of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from stk.config.run import FeatureConfig
from stk.data.batch import Batch, Item, Size, Source
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.data.vocab import CharVocab
from stk.features.frontend import FrontEnd
from stk.objectives.base import CollateContext, Objective

RATE = 16000


@dataclass(frozen=True)
class ToyBatch(Batch):
    """Features of a batch and one number a row from the row's generator."""

    source: Source | None
    noise: Tensor
    tokens: Tensor


class ToyObjective(Objective):
    """Reads sound and the translation's characters; refuses fewer frames than tokens."""

    def __init__(self, sound: bool = True, needs: Sequence[str] = ("tgt_text",)) -> None:
        self.needs = frozenset(needs) | (frozenset({"audio"}) if sound else frozenset())
        self.reads_audio = sound

    def size(self, example: Example, context: CollateContext) -> Size:
        vocab = context.vocabs["tgt"]
        if example.tgt_lang is not None:
            vocab.tag(example.tgt_lang)
        frames = 0
        if self.reads_audio:
            assert context.frontend is not None and example.duration is not None
            frames = context.frontend.frames(example.duration)
        return Size(frames=frames, tokens=len(vocab.encode(example.tgt_text or "")))

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        if self.reads_audio and size.frames < size.tokens:
            return f"too few frames for CTC: {size.frames} for {size.tokens} tokens"
        return None

    def collate(self, items: Sequence[Item], context: CollateContext) -> ToyBatch:
        source = None
        rngs = [item.rng for item in items]
        if self.reads_audio:
            assert context.frontend is not None
            waveforms = [item.waveform for item in items if item.waveform is not None]
            source = context.frontend(waveforms, rngs, context.augment)
        return ToyBatch(
            ids=tuple(item.example.id for item in items),
            source=source,
            noise=torch.tensor([rng.random() for rng in rngs]),
            tokens=torch.tensor(
                [len(context.vocabs["tgt"].encode(i.example.tgt_text or "")) for i in items]
            ),
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"examples": float(len(batch.ids))}

    def forward(self, model: object, batch: object, context: object) -> dict[str, object]:
        raise AssertionError("the tests of data run no model")


@pytest.fixture
def toy() -> type[ToyObjective]:
    return ToyObjective


@pytest.fixture
def context() -> CollateContext:
    vocab = CharVocab("abcdefgh ", tags=["de", "fr"])
    return CollateContext(vocabs={"tgt": vocab}, frontend=FrontEnd(FeatureConfig()))


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write noise of some seconds and return its path."""

    def make(
        name: str = "clip.wav",
        seconds: float = 1.0,
        rate: int = RATE,
        channels: int = 1,
        seed: int = 0,
    ) -> Path:
        shape = (round(seconds * rate), channels)
        samples = 0.1 * np.random.default_rng(seed).standard_normal(shape).clip(-3, 3)
        path = tmp_path / name
        soundfile.write(path, samples, rate)
        return path

    return make


@pytest.fixture
def corpus(tmp_path: Path, clip: Callable[..., Path]) -> Callable[..., Path]:
    """Write clips of 0.3 to 1.5 s and a manifest over them."""

    def make(rows: int = 24, name: str = "train.jsonl", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        examples = []
        for i in range(rows):
            seconds = round(float(rng.uniform(0.3, 1.5)), 3)
            audio = clip(f"{name}-{i}.flac", seconds, seed=i)
            text = "".join(rng.choice(list("abcdefgh"), size=int(rng.integers(2, 20))))
            examples.append(
                Example(
                    id=f"u{i}",
                    audio=audio,
                    duration=round(seconds * RATE) / RATE,
                    tgt_text=text,
                    tgt_lang=("de", "fr")[i % 2],
                )
            )
        write_manifest(tmp_path / name, examples)
        return tmp_path / name

    return make
