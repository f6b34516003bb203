"""Where begin, end and language symbols stand: mBART's fine-tuning, documents, mBART-50."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stk.data.batch import Item
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch

Make = Callable[..., Example]
MBART = {
    "name": "cross_entropy", "source": "src_text", "source_suffix": "src_lang",
    "begin": "tgt_lang", "end": "begin",
}  # fmt: skip


def collated(example: Example, context: CollateContext, **keys: object) -> SequenceBatch:
    item = Item(example=example, rng=np.random.default_rng(0))
    batch = build_objective(keys).collate([item], context)
    assert isinstance(batch, SequenceBatch) and batch.target is not None
    return batch


def ids(batch: SequenceBatch) -> tuple[list[int], list[int], list[int]]:
    """Source, decoder input and labels of the one row."""
    assert batch.target is not None
    inputs, places = batch.target.inputs.data, batch.target.places.tolist()
    assert places == list(range(inputs.shape[1] - len(places), inputs.shape[1]))
    return batch.source.data[0].tolist(), inputs[0].tolist(), batch.target.labels.tolist()


def test_mbart_is_fine_tuned_as_fairseq_does(
    example: Make, context: CollateContext, vocab: CharVocab
) -> None:
    """``X </s> [SRC]``; the decoder reads ``[TGT] Y </s>`` and writes ``Y </s> [TGT]``."""
    de, en, eos = vocab.tag("de"), vocab.tag("en"), vocab.eos
    source, inputs, labels = ids(collated(example(), context, **MBART))
    assert source == [*vocab.encode("ein haus"), eos, de]
    assert inputs == [en, *vocab.encode("a house"), eos]
    assert labels == [*vocab.encode("a house"), eos, en]


def test_hugging_face_stops_at_eos(
    example: Make, context: CollateContext, vocab: CharVocab
) -> None:
    _, inputs, labels = ids(collated(example(), context, **{**MBART, "end": "eos"}))
    assert inputs == [vocab.tag("en"), *vocab.encode("a house")]
    assert labels == [*vocab.encode("a house"), vocab.eos]


def test_mbart_50_begins_with_eos(example: Make, context: CollateContext, vocab: CharVocab) -> None:
    keys = {"name": "cross_entropy", "source": "src_text", "source_prefix": "src_lang",
            "begin": "eos", "prefix": "tgt_lang"}  # fmt: skip
    source, inputs, labels = ids(collated(example(), context, **keys))
    assert source == [vocab.tag("de"), *vocab.encode("ein haus"), vocab.eos]
    assert inputs == [vocab.eos, vocab.tag("en"), *vocab.encode("a house")]
    assert labels == [*vocab.encode("a house"), vocab.eos]


def test_documents_have_an_end_symbol_after_every_sentence(
    example: Make, context: CollateContext, vocab: CharVocab
) -> None:
    row = example(src_text="ein haus\nzwei\n", tgt_text="a house\n\ntwo")
    objective = build_objective({**MBART, "source_lines": True})
    source, inputs, labels = ids(collated(row, context, **{**MBART, "source_lines": True}))
    en, eos = vocab.tag("en"), vocab.eos
    written = [*vocab.encode("a house"), eos, *vocab.encode("two"), eos]
    assert source == [*vocab.encode("ein haus"), eos, *vocab.encode("zwei"), eos, vocab.tag("de")]
    assert inputs == [en, *written] and labels == [*written, en]
    assert objective.size(row, context).tokens == max(len(source), len(inputs))
    assert objective.read(written, vocab).text == "a house\ntwo"  # type: ignore[attr-defined]


def test_the_pre_training_layout_is_the_same(
    example: Make, context: CollateContext, vocab: CharVocab
) -> None:
    """What denoising trains the decoder on is what fine-tuning goes on with."""
    row = example(src_text="a house", src_lang="en")
    noise = {"permute": False, "infill": 0.0}
    denoised = ids(collated(row, context, name="denoising", layout="mbart", **noise))
    row = example(src_text="a house", src_lang="en", tgt_text="a house")
    assert ids(collated(row, context, **MBART, source_view="src")) == denoised


def test_what_a_layout_needs(example: Make, context: CollateContext) -> None:
    objective = build_objective(MBART)
    assert objective.needs == {"src_text", "src_lang", "tgt_text", "tgt_lang"}
    with pytest.raises(StkError, match="no tag 'fr'"):
        collated(example(tgt_lang="fr"), context, **MBART)
    with pytest.raises(StkError, match="end: begin needs a tag"):
        build_objective({**MBART, "begin": "eos"})
    with pytest.raises(StkError, match="begins with bos"):
        build_objective({"name": "consecutive", "begin": "tgt_lang"})


def test_labels_stand_where_their_inputs_end(example: Make, context: CollateContext) -> None:
    """Rows of different lengths: every label follows its input."""
    rows = [example(id="a"), example(id="b", tgt_text="two"), example(id="c", tgt_text="a")]
    items = [Item(example=row, rng=np.random.default_rng(0)) for row in rows]
    batch = build_objective(MBART).collate(items, context)
    assert isinstance(batch, SequenceBatch) and batch.target is not None
    flat = batch.target.inputs.data.flatten()
    ends = torch.isin(batch.target.labels, flat[0])
    following = flat[(batch.target.places + 1).clamp(max=len(flat) - 1)]
    assert torch.equal(following[~ends], batch.target.labels[~ends]) and int(ends.sum()) == 3
