"""LUT: who is taught by what, masks on both sides, and nothing of BERT at inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stk.config.run import DecodeConfig
from stk.data.batch import Item, Padded
from stk.data.bert_features import KIND, text_digest
from stk.data.example import Example
from stk.data.sidecar import Sidecar, SidecarWriter, made_by
from stk.data.vocab import CharVocab
from stk.decoding.decode import decode_items
from stk.decoding.member import Member
from stk.errors import StkError
from stk.models.lut import Lut
from stk.models.outputs import Encoded
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.lut import Understanding
from stk.objectives.registry import build_objective

WIDTH = 12


def model(vocab: CharVocab, **keys: Any) -> Lut:
    torch.manual_seed(1)
    named = {"name": "lut", "encoder_layers": 1, "semantic_layers": 1, "decoder_layers": 1}
    named |= {"width": 16, "ffn": 24, "heads": 2, "dropout": 0.0, "conv_channels": 8}
    built = build_model(
        {**named, "bert_width": WIDTH, **keys}, dict.fromkeys(("tgt", "ctc"), len(vocab)), 20
    )
    assert isinstance(built, Lut)
    return built


def objective(**keys: Any) -> Understanding:
    built = build_objective({"name": "lut", **keys})
    assert isinstance(built, Understanding)
    return built


def write(path: Path, items: list[Item], *, pooled: bool = False, **changes: object) -> Sidecar:
    parts = {"kind": KIND, "text": "src_text", "pooled": pooled} | changes
    generator = torch.Generator().manual_seed(7)
    with SidecarWriter(path, made_by(**parts), parts) as writer:
        for item in items:
            text = item.example.src_text or ""
            count = 1 if pooled else len(text.split()) + 1
            states = torch.randn(count, WIDTH, generator=generator).half()
            writer.add(item.example.id, {"states": states, "text": text_digest(text)})
    return Sidecar(path)


@pytest.fixture
def known(items: list[Item], context: CollateContext, tmp_path: Path) -> CollateContext:
    """The context with features of every item's transcript."""
    return dataclasses.replace(context, sidecars={"bert": write(tmp_path / "bert", items)})


def reached(network: nn.Module, task: Understanding, batch: Any, name: str) -> set[str]:
    """Components that one of the losses moves."""
    network.zero_grad()
    task.forward(network, batch, Context())[name].value.backward()
    return {
        n.split(".")[0]
        for n, p in network.named_parameters()
        if p.grad is not None and p.grad.any()
    }


@pytest.mark.parametrize("match", ["tokens", "pooled"])
def test_what_each_loss_teaches(
    match: str, items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    sidecar = write(tmp_path / "bert", items, pooled=match == "pooled")
    task, network = objective(), model(vocab, match=match)
    batch = task.collate(items, dataclasses.replace(context, sidecars={"bert": sidecar}))
    assert reached(network, task, batch, "ctc") == {"encoder", "ctc"}
    assert reached(network, task, batch, "mse") == {"encoder", "semantic", "matcher"}
    assert reached(network, task, batch, "ce") == {"encoder", "semantic", "decoder"}
    sums = task.forward(network, batch, Context())
    assert [sums[n].weight for n in ("ctc", "mse", "ce")] == [0.5, 0.05, 0.45]
    words = [1 if match == "pooled" else len((i.example.src_text or "").split()) + 1 for i in items]
    assert task.counts(batch)["bert_states"] == sum(words)


@pytest.mark.parametrize("match", ["tokens", "pooled"])
def test_batches_equal_singles(
    match: str, items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    """Neither padded encoder states nor padded queries take part."""
    sidecar = write(tmp_path / "bert", items, pooled=match == "pooled")
    known = dataclasses.replace(context, sidecars={"bert": sidecar})
    task, network = objective(), model(vocab, match=match).eval()
    batch = task.collate(items, known)
    together = task.forward(network, batch, Context())
    alone = [task.forward(network, task.collate([i], known), Context()) for i in items]
    for name in ("ctc", "mse", "ce"):
        total = torch.stack([sums[name].value for sums in alone]).sum()
        torch.testing.assert_close(together[name].value, total, rtol=1e-4, atol=1e-4)
    dirty = batch.features.data.clone()
    dirty[torch.arange(dirty.shape[1]) >= batch.features.lengths[:, None]] = float("nan")
    features = Padded(dirty, batch.features.lengths)
    again = task.forward(network, dataclasses.replace(batch, features=features), Context())
    assert torch.equal(again["mse"].value, together["mse"].value)


def test_one_frame_answers_every_query_alike(vocab: CharVocab) -> None:
    network = model(vocab).double().eval()
    encoded = Encoded(torch.randn(2, 3, 16).double(), torch.tensor([1, 3]))
    found = network.matched(encoded, Padded(torch.randn(2, 4, WIDTH), torch.tensor([4, 4])))
    torch.testing.assert_close(found[0], found[0, :1].expand(4, -1))
    assert not torch.allclose(found[1, 0], found[1, 1])


def test_pooled_features_meet_the_mean_of_real_states(vocab: CharVocab) -> None:
    network = model(vocab, match="pooled", bert_width=16).eval()
    states, lengths = torch.randn(2, 5, 16), torch.tensor([2, 5])
    states[0, 2:] = 0.0
    found = network.matched(
        Encoded(states, lengths), Padded(torch.randn(2, 1, 16), torch.ones(2).long())
    )
    torch.testing.assert_close(found[:, 0], torch.stack([states[0, :2].mean(0), states[1].mean(0)]))
    assert not list(network.matcher.parameters())


def test_translating_needs_neither_transcript_nor_bert(
    items: list[Item], context: CollateContext, vocab: CharVocab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the matcher ran")

    network = model(vocab).eval()
    monkeypatch.setattr(network.matcher, "forward", never)
    bare = [
        dataclasses.replace(i, example=dataclasses.replace(i.example, src_text=None, tgt_text=None))
        for i in items
    ]
    member = Member(network, objective(), dataclasses.replace(context, training=False))
    found, _ = decode_items([member], [bare], DecodeConfig(beam=2, max_length=4))
    assert len(found) == len(items)


def test_a_stream_without_translations(
    items: list[Item], known: CollateContext, vocab: CharVocab
) -> None:
    task, network = objective(ce_weight=0), model(vocab)
    heard = [
        dataclasses.replace(i, example=dataclasses.replace(i.example, tgt_text=None)) for i in items
    ]
    task.require(heard[0].example)
    batch = task.collate(heard, known)
    sums = task.forward(network, batch, Context())
    assert set(sums) == {"ctc", "mse"} and "tokens" not in task.counts(batch)
    with pytest.raises(StkError, match="lacks tgt_text"):
        objective().require(heard[0].example)


def test_bad_input(
    items: list[Item],
    known: CollateContext,
    vocab: CharVocab,
    example: Callable[..., Example],
    tmp_path: Path,
) -> None:
    task = objective()
    task.check_helpers({}, known)
    with pytest.raises(StkError, match=r"m\.jsonl:3: .*lacks src_text"):
        task.require(example(src_text=None))
    with pytest.raises(StkError, match="no sidecar 'bert'.*stk-data bert"):
        task.check_helpers({}, dataclasses.replace(known, sidecars={}))
    for part, value in (("kind", "teacher"), ("text", "tgt_text")):
        other = {"bert": write(tmp_path / part, items, **{part: value})}
        with pytest.raises(StkError, match=f"was made with {part}"):
            task.check_helpers({}, dataclasses.replace(known, sidecars=other))
    batch = task.collate(items, known)
    with pytest.raises(StkError, match="width 12, but model.bert_width is 16"):
        task.forward(model(vocab, bert_width=16), batch, Context())
    with pytest.raises(StkError, match="one BERT feature a sentence"):
        task.forward(model(vocab, match="pooled"), batch, Context())
    changed = dataclasses.replace(items[0].example, src_text="zwei")
    with pytest.raises(StkError, match=r"m\.jsonl:3: .*another src_text"):
        task.collate([dataclasses.replace(items[0], example=changed)], known)
    size = task.size(example(id="new"), known)
    assert "not in the sidecar bert" in str(task.refuse(example(id="new"), size, known))
    with pytest.raises(StkError, match="multiple of matcher_heads"):
        model(vocab, matcher_heads=5)
    with pytest.raises(StkError, match="source must be audio"):
        objective(source="src_text")
