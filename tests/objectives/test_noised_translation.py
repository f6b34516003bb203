"""Noised back-translation: the source alone is noised, in training alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stk.data.batch import Item
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.objectives import task
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective

TASK: dict[str, Any] = {"source": "src_text", "source_prefix": "src_lang", "prefix": "tgt_lang"}


def test_source_alone_is_noised(items: list[Item], context: CollateContext) -> None:
    noised = build_objective({"name": "noised_translation", **TASK, "blank": 0.5})
    plain = build_objective({"name": "cross_entropy", **TASK}).collate(items, context)
    batch: Any = noised.collate(items, context)
    idle: Any = noised.collate(items, replace(context, training=False))
    assert torch.equal(batch.target.labels, plain.target.labels)  # type: ignore[attr-defined]
    assert torch.equal(idle.source.data, plain.source.data)  # type: ignore[attr-defined]
    assert not torch.equal(batch.source.data[0], plain.source.data[0])  # type: ignore[attr-defined]


def test_rates_and_what_stays(
    example: Callable[..., Example], context: CollateContext, vocab: CharVocab
) -> None:
    text = "ein haus zwei drei affen ein haus zwei drei affen"
    tokens = vocab.encode(text)
    blanks = 0
    for seed in range(300):
        item = Item(example=example(src_text=text), rng=np.random.default_rng(seed))
        named = {"name": "noised_translation", **TASK, "drop": 0.0, "shuffle": 0.0}
        batch: Any = build_objective(named).collate([item], context)
        ids = batch.source.data[0].tolist()
        assert ids[0] == vocab.tag("de") and ids[-1] == vocab.eos
        blanks += ids.count(vocab.mask)
        assert all(i == vocab.mask or i in tokens for i in ids[1:-1])
    assert abs(blanks / (300 * len(tokens)) - 0.1) < 0.02  # whole words, a mask for each piece


def test_documents_in_mbart_s_layout_keep_their_symbols(
    example: Callable[..., Example], context: CollateContext, vocab: CharVocab
) -> None:
    """End symbols and the language stand where they stood; no word leaves its sentence."""
    keys = {"source": "src_text", "source_suffix": "src_lang", "source_lines": True,
            "begin": "tgt_lang", "end": "begin"}  # fmt: skip
    lines = ("ein haus ein haus", "drei affen drei")
    row = example(src_text="\n".join((lines[0], "", lines[1])), tgt_text="a house\ntwo")
    plain: Any = build_objective({"name": "cross_entropy", **keys})
    noised = build_objective({"name": "noised_translation", **keys, "blank": 0.3})
    changed = 0
    for seed in range(20):
        item = Item(example=row, rng=np.random.default_rng(seed))
        batch: Any = noised.collate([item], context)
        *ids, tag = batch.source.data[0].tolist()
        assert tag == vocab.tag("de") and ids[-1] == vocab.eos and ids.count(vocab.eos) == 2
        middle = ids.index(vocab.eos)
        for line, part in zip(lines, (ids[:middle], ids[middle + 1 : -1]), strict=True):
            assert {*part} <= {*vocab.encode(line), vocab.mask}
        assert len(ids) + 1 <= noised.size(row, context).tokens
        changed += batch.source.data[0].tolist() != task.source_ids(row, plain.config, context)
    assert changed > 15


def test_bad_settings() -> None:
    with pytest.raises(StkError, match="source must be a text"):
        build_objective({"name": "noised_translation"})
    with pytest.raises(StkError, match="drop and blank"):
        build_objective({"name": "noised_translation", **TASK, "drop": 2.0})
