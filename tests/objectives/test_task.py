"""One definition of a task: fields, tokens, prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from stk.config.run import AugmentConfig
from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch, SequenceObjective

Make = Callable[..., Example]

ASR = {"source": "audio", "target": "src_text", "prefix": "asr"}
MT = {"source": "src_text", "target": "tgt_text", "prefix": "tgt_lang"}
ST = {"source": "audio", "target": "tgt_text", "prefix": "tgt_lang"}


def objective(**keys: object) -> SequenceObjective:  # type: ignore[type-arg]
    made = build_objective({"name": "cross_entropy", **keys})
    assert isinstance(made, SequenceObjective)
    return made


@pytest.mark.parametrize(
    ("keys", "needs", "audio"),
    [
        (ASR, {"audio", "src_text"}, True),
        (MT, {"src_text", "tgt_text", "tgt_lang"}, False),
        (ST, {"audio", "tgt_text", "tgt_lang"}, True),
        ({"source": "tgt_text", "target": "src_text", "source_prefix": "src_lang"},
         {"tgt_text", "src_text", "src_lang"}, False),
    ],
)  # fmt: skip
def test_tasks_are_one_objective_over_different_fields(
    keys: dict[str, str], needs: set[str], audio: bool
) -> None:
    made = objective(**keys)
    assert made.needs == needs and made.reads_audio == audio


def test_a_missing_field_names_file_and_row(example: Make) -> None:
    with pytest.raises(StkError, match=r"m\.jsonl:3: example 'x' lacks tgt_lang, tgt_text"):
        objective(**ST).require(example(tgt_text=None, tgt_lang=None))


def test_an_empty_text_is_refused(example: Make) -> None:
    with pytest.raises(StkError, match=r"m\.jsonl:3: example 'x' has an empty tgt_text"):
        objective(**MT).require(example(tgt_text="  "))
    objective(**ASR).require(example(tgt_text=""))


@pytest.mark.parametrize("keys", [ASR, MT, ST, {"source": "src_text"}])
def test_decoder_reads_bos_and_prefix_and_is_trained_on_the_rest(
    keys: dict[str, str], items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    made = objective(**keys)
    batch = made.collate(items, context)
    assert isinstance(batch, SequenceBatch) and batch.target is not None
    inputs, target = batch.target.inputs, batch.target
    rows, width = inputs.data.shape
    labels = torch.zeros(rows * width, dtype=torch.int64)
    labels[target.places] = target.labels
    labels = labels.view(rows, width)
    total = 0
    for row, item in enumerate(items):
        prefix = made.prefix_ids(item.example, context)
        tag = {"asr": "asr", "tgt_lang": "en"}.get(keys.get("prefix", ""))
        assert prefix == ([] if tag is None else [vocab.tag(tag)])
        pieces = vocab.encode(getattr(item.example, keys.get("target", "tgt_text")))
        length = int(inputs.lengths[row])
        assert inputs.data[row, :length].tolist() == [vocab.bos, *prefix, *pieces]
        assert labels[row, : len(prefix)].tolist() == [0] * len(prefix)
        assert labels[row, len(prefix) : length].tolist() == [*pieces, vocab.eos]
        assert not labels[row, length:].any() and not inputs.data[row, length:].any()
        total += len(pieces) + 1
    assert made.counts(batch) == {"examples": 3, "tokens": total}


def test_text_source(items: list[Item], context: CollateContext, vocab: CharVocab) -> None:
    made = objective(**MT, source_prefix="src_lang")
    source = made.collate_source(items, context)
    length = int(source.lengths[1])
    assert source.is_text
    expected = [vocab.tag("de"), *vocab.encode("zwei"), vocab.eos]
    assert source.data[1, :length].tolist() == expected


def test_sound_source_is_what_the_front_end_makes(
    items: list[Item], context: CollateContext
) -> None:
    assert context.frontend is not None
    source = objective(**ST).collate_source(items, context)
    waveforms = [item.waveform for item in items if item.waveform is not None]
    assert torch.equal(source.data, context.frontend(waveforms).data)


def test_augmentation_acts_in_training_alone(items: list[Item], context: CollateContext) -> None:
    made = objective(**ST)
    plain = made.collate_source(items, context)
    masked = replace(context, augment=AugmentConfig(specaugment="lb"))
    assert not torch.equal(made.collate_source(items, masked).data, plain.data)
    idle = replace(masked, training=False)
    assert torch.equal(made.collate_source(items, idle).data, plain.data)


def test_size_bounds_what_collate_makes(items: list[Item], context: CollateContext) -> None:
    for keys in (ASR, MT, ST):
        made = objective(**keys)
        sizes = [made.size(item.example, context) for item in items]
        batch = made.collate(items, context)
        assert isinstance(batch, SequenceBatch) and batch.target is not None
        if made.reads_audio:
            assert [size.frames for size in sizes] == batch.source.lengths.tolist()
            assert [size.tokens for size in sizes] == batch.target.inputs.lengths.tolist()
        else:
            longer = torch.maximum(batch.source.lengths, batch.target.inputs.lengths)
            assert sizes == [Size(tokens=int(n)) for n in longer]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target_view": "fr"}, "no vocabulary view 'fr'"),
        ({"prefix": "klingon"}, "no tag 'klingon'"),
    ],
)
def test_unknown_view_and_tag(
    keys: dict[str, str], message: str, items: list[Item], context: CollateContext
) -> None:
    with pytest.raises(StkError, match=message):
        objective(**keys).collate(items, context)


def test_sound_without_features_or_duration(example: Make, context: CollateContext) -> None:
    with pytest.raises(StkError, match="add the section features"):
        objective(**ST).size(example(), replace(context, frontend=None))
    with pytest.raises(StkError, match=r"m\.jsonl:3: example 'x' has no duration"):
        objective(**ST).size(example(duration=None), context)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"name": "cross_entrpy"}, "nearest: cross_entropy"),
        ({"name": "cross_entropy", "smoothing": 1.0}, "smoothing must lie in"),
        ({"name": "ctc", "target": "tgt_text"}, "unknown key 'objective.target'"),
        ({"name": "joint", "source": "video"}, "not one of audio"),
    ],
)
def test_wrong_configurations(named: dict[str, object], message: str) -> None:
    with pytest.raises(StkError, match=message):
        build_objective(named)
