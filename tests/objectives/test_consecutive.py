"""The joint string of COSTT: what is read, what is learnt, how it is split again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.costt import Costt
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.consecutive import Consecutive
from stk.objectives.registry import build_objective

MODEL = {"name": "costt", "encoder_layers": 2, "semantic_layers": 1, "decoder_layers": 2} | {
    "width": 32, "ffn": 64, "heads": 2, "dropout": 0.0, "conv_channels": 32,
}  # fmt: skip


@pytest.fixture
def vocab() -> CharVocab:
    """Characters of both languages, with the two tags of the joint string."""
    return CharVocab("abcdefghijklmnoprstuwz ", ("asr", "ast"))


def objective(**keys: Any) -> Consecutive:
    built = build_objective({"name": "consecutive", **keys})
    assert isinstance(built, Consecutive)
    return built


def model(vocab: CharVocab) -> Costt:
    torch.manual_seed(1)
    built = build_model(MODEL, {"tgt": len(vocab), "ctc": len(vocab)}, 20)
    assert isinstance(built, Costt)
    return built


def test_the_joint_string(items: list[Item], context: CollateContext, vocab: CharVocab) -> None:
    batch = objective().collate(items, context)
    assert batch.target is not None and batch.ctc is not None
    texts = [(item.example.src_text or "", item.example.tgt_text or "") for item in items]
    asr, ast = vocab.tag("asr"), vocab.tag("ast")
    whole = [[asr, *vocab.encode(s), ast, *vocab.encode(t)] for s, t in texts]
    lengths = batch.target.inputs.lengths.tolist()
    rows = [row[:n].tolist() for row, n in zip(batch.target.inputs.data, lengths, strict=True)]
    assert rows == [[vocab.bos, *ids] for ids in whole]
    wanted = [i for ids in whole for i in [*ids[1:], vocab.eos]]  # the forced tag is no label
    assert batch.target.labels.tolist() == wanted
    before = batch.target.inputs.data.flatten()[batch.target.places]
    assert before.tolist() == [i for ids in whole for i in ids]
    assert batch.sizes == {
        "examples": 3, "tokens": len(wanted), "ctc_tokens": sum(len(s) for s, _ in texts),
    }  # fmt: skip
    size = objective().size(items[2].example, context)
    assert size.tokens == lengths[2]


def test_loss_on_the_translation_alone(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    batch = objective(transcript_loss=False).collate(items, context)
    assert batch.target is not None
    said = [[*vocab.encode(item.example.tgt_text or ""), vocab.eos] for item in items]
    assert batch.target.labels.tolist() == [i for ids in said for i in ids]
    before = batch.target.inputs.data.flatten()[batch.target.places]
    assert int(before[0]) == vocab.tag("ast")


def test_the_loss_is_alpha_ctc_and_the_rest_cross_entropy(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    """Compared with PyTorch's own losses."""
    network, task = model(vocab).eval(), objective(ce_weight=0.75, ctc_weight=0.25)
    batch = task.collate(items, context)
    assert batch.target is not None and batch.ctc is not None
    counts = task.counts(batch)
    loss, sums = ObjectiveModule(network, {"s": task})("s", batch, Context(), counts)
    encoded = network.encode(batch.source)
    assert encoded.ctc_logits is not None and encoded.ctc_lengths is not None
    inputs = batch.target.inputs
    logits = network.decode(encoded, inputs.data, inputs.lengths).logits.flatten(0, 1)
    ce = torch.nn.functional.cross_entropy(
        logits[batch.target.places], batch.target.labels, label_smoothing=0.1
    )
    ctc = torch.nn.functional.ctc_loss(
        encoded.ctc_logits.log_softmax(-1).transpose(0, 1), batch.ctc.data,
        encoded.ctc_lengths, batch.ctc.lengths, reduction="sum", zero_infinity=True,
    ) / counts["ctc_tokens"]  # fmt: skip
    torch.testing.assert_close(loss, 0.75 * ce + 0.25 * ctc)
    assert set(sums) == {"ce", "nll", "accuracy", "ctc"}


def test_the_first_stage_trains_the_decoder_alone(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    task = objective(source="src_text", source_view="tgt", ce_weight=1.0, ctc_weight=0)
    assert task.needs == {"src_text", "tgt_text"} and not task.reads_audio
    network, texts = model(vocab), dataclasses.replace(context, frontend=None)
    batch = task.collate([dataclasses.replace(i, waveform=None) for i in items], texts)
    module = ObjectiveModule(network, {"s": task})
    loss, sums = module("s", batch, Context(), task.counts(batch))
    loss.backward()
    trained = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert trained == {"decoder"} and "ctc" not in sums


def test_one_batch_is_learnt_and_decoded(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    """Greedy output of one pass, split at the tag, is transcript and translation."""
    from stk.config.run import DecodeConfig
    from stk.decoding.decode import decode_items
    from stk.decoding.member import Member

    network, task = model(vocab), objective(smoothing=0.0)
    module, batch = ObjectiveModule(network, {"s": task}), task.collate(items, context)
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(160):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        loss, _ = module("s", batch, Context(), task.counts(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    quiet = dataclasses.replace(context, training=False)
    member, config = Member(network.eval(), task, quiet), DecodeConfig(beam=2)
    found, _ = decode_items([member], [items], config)
    for item, hypotheses in zip(items, found, strict=True):
        written = member.read(hypotheses[0].tokens, config)
        assert written.separated
        assert written.transcript == item.example.src_text
        assert written.text == item.example.tgt_text


def test_splitting(vocab: CharVocab) -> None:
    task, tag = objective(), vocab.tag("ast")
    heard, said = vocab.encode("ein haus"), vocab.encode("a house")
    found = task.read([*heard, tag, *said], vocab)
    assert (found.transcript, found.text, found.separated) == ("ein haus", "a house", True)
    missing = task.read(heard, vocab)
    assert (missing.transcript, missing.text, missing.separated) == ("ein haus", "", False)
    twice = task.read([*heard, tag, *said, tag, *heard], vocab)
    assert twice.transcript == "ein haus" and twice.text.startswith("a house")
    assert task.read([tag], vocab) == dataclasses.replace(found, text="", transcript="")


def test_bad_input(
    example: Callable[..., Example], context: CollateContext, vocab: CharVocab
) -> None:
    with pytest.raises(StkError, match=r"m\.jsonl.*lacks src_text"):
        objective().require(example(src_text=None))
    with pytest.raises(StkError, match="empty tgt_text"):
        objective().require(example(tgt_text=" "))
    bare = dataclasses.replace(context, vocabs={"tgt": CharVocab("abc"), "ctc": vocab})
    with pytest.raises(StkError, match="no tag 'asr'"):
        objective().size(example(), bare)
    assert "longer than its CTC frames" in str(
        objective().refuse(example(), Size(frames=9), context)
    )
    for keys, message in (
        ({"source": "src_text"}, "no CTC"),
        ({"separator": "asr"}, "a tag of its own"),
        ({"transcript": "tgt_text"}, "two fields"),
        ({"smoothing": 1.0}, "smoothing"),
    ):
        with pytest.raises(StkError, match=message):
            objective(**keys)
