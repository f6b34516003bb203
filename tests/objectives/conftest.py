"""Examples, a vocabulary and a context that every objective can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.run import FeatureConfig
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.features.frontend import FrontEnd
from stk.modules.lengths import LengthFormula
from stk.objectives.base import CollateContext

TEXTS = (("ein haus", "a house"), ("zwei", "two"), ("drei affen", "three apes"))


@pytest.fixture
def vocab() -> CharVocab:
    """Characters, with language and task tags."""
    return CharVocab.of_texts([t for pair in TEXTS for t in pair], ("de", "en", "asr"))


@pytest.fixture
def context(vocab: CharVocab) -> CollateContext:
    """A context with every view and a front end."""
    return CollateContext(
        vocabs={"src": vocab, "tgt": vocab, "ctc": vocab},
        frontend=FrontEnd(FeatureConfig(num_mel_bins=20)),
        ctc_lengths=LengthFormula(((5, 2, 2),) * 2),
    )


@pytest.fixture
def example() -> Callable[..., Example]:
    """Make an example with every field."""

    def make(**fields: Any) -> Example:
        known: dict[str, Any] = {
            "id": "x",
            "audio": Path("x.wav"),
            "duration": 1.0,
            "src_text": "ein haus",
            "src_lang": "de",
            "tgt_text": "a house",
            "tgt_lang": "en",
            "file": Path("m.jsonl"),
            "row": 3,
        }
        return Example(**{**known, **fields})

    return make


@pytest.fixture
def items(example: Callable[..., Example]) -> list[Item]:
    """Three items with sound of different lengths."""
    made = []
    for i, (source, target) in enumerate(TEXTS):
        waveform = torch.randn(8000 + 2500 * i, generator=torch.Generator().manual_seed(i)) * 0.1
        row = example(id=f"x{i}", src_text=source, tgt_text=target, duration=len(waveform) / 16000)
        made.append(Item(example=row, rng=np.random.default_rng(i), waveform=waveform))
    return made
