"""Tagged back-translation as the recipe trains it: which sources carry the tag (Caswell et al.)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective

CONF = Path(__file__).resolve().parents[2] / "recipes/bible_mt/conf/back-translated.yaml"
TEXTS = ("ein haus", "zwei", "drei affen", "bt")


@pytest.mark.parametrize("objective", ["cross_entropy", "noised_translation"])
def test_synthetic_sources_carry_the_tag_and_natural_ones_never(
    objective: str, example: Callable[..., Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARK", "bt")
    monkeypatch.setenv("OBJECTIVE", objective)
    config = build(RunConfig, load_mapping(CONF), file=CONF)
    streams = {stream.name: build_objective(stream.objective) for stream in config.streams}
    vocab = CharVocab.of_texts(TEXTS, ("de", "en", "bt"))
    training = CollateContext(vocabs={"text": vocab})
    items = [
        Item(example=example(id=f"{i}", src_text=TEXTS[i % 4], tgt_text="zwei"),
             rng=np.random.default_rng(i))
        for i in range(40)
    ]  # fmt: skip

    def tagged(name: str, context: CollateContext) -> list[bool]:
        batch: Any = streams[name].collate(items, context)
        assert not (batch.target.inputs.data == vocab.tag("bt")).any()
        rows = zip(batch.source.data.tolist(), batch.source.lengths.tolist(), strict=True)
        found = [row[:length] for row, length in rows]
        assert all(row.count(vocab.tag("bt")) == (row[0] == vocab.tag("bt")) for row in found)
        return [vocab.tag("bt") in row for row in found]

    assert set(streams) == {"translation", "synthetic"}
    assert tagged("synthetic", training) == [True] * 40
    assert tagged("translation", training) == [False] * 40
    assert config.streams[0].name == "translation"  # what is decoded: no tag in inference
    assert tagged("translation", replace(training, training=False)) == [False] * 40
