"""Masked, causal and translation language modelling, and the model they train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.training import InitConfig
from stk.data.batch import Item, Source
from stk.data.example import Example
from stk.data.token_counts import count_tokens, save_counts
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.language_model import LanguageModel
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.monolingual import TokenBatch
from stk.objectives.registry import build_objective
from stk.training.init_from import init_from
from stk.training.tensors import Weights

SIZES: dict[str, Any] = {"layers": 2, "width": 32, "ffn": 64, "heads": 2, "dropout": 0.0}
SIZES["attention_dropout"] = 0.0


def language_model(vocab: CharVocab, **keys: Any) -> LanguageModel:
    torch.manual_seed(1)
    named = {"name": "language_model", "languages": 3, **SIZES, **keys}
    model = build_model(named, {"src": len(vocab)})
    assert isinstance(model, LanguageModel)
    return model


def collated(items: list[Item], context: CollateContext, **named: Any) -> TokenBatch:
    batch = build_objective(named).collate(items, context)
    assert isinstance(batch, TokenBatch)
    return batch


@pytest.mark.parametrize("name", ["masked_lm", "causal_lm", "translation_lm"])
def test_one_batch_is_learnt(
    name: str, items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    model = language_model(vocab, head="transform" if name == "masked_lm" else "linear")
    objective = build_objective({"name": name, "languages": True})
    module, batch = ObjectiveModule(model, {"s": objective}), objective.collate(items, context)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss, sums = module("s", batch, Context(), objective.counts(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens = objective.counts(batch)["tokens"]
    unknowable = 3 if name == "causal_lm" else 0  # which of the three texts begins
    assert float(loss.detach()) < unknowable * np.log(3) / tokens + 0.05
    assert float(sums["accuracy"].value) >= tokens - max(0, unknowable - 1)


def test_chosen_tokens_are_the_labels(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    batch = collated(items, context, name="masked_lm", rate=0.5, mix=[1.0, 0.0], languages=True)
    flat = batch.source.data.flatten()
    assert (flat[batch.places] == vocab.mask).all() and len(batch.labels) > 3
    restored = flat.clone()
    restored[batch.places] = batch.labels
    for row, item in enumerate(items):
        ids = [vocab.bos, *vocab.encode(str(item.example.src_text)), vocab.eos]
        assert restored.view_as(batch.source.data)[row, : len(ids)].tolist() == ids
        assert batch.source.lengths[row] == len(ids)
    assert batch.source.languages is not None and not batch.source.languages.any()  # de is tag 0
    again = [replace(item, rng=np.random.default_rng(i)) for i, item in enumerate(items)]
    one_by_one = [
        collated([item], context, name="masked_lm", rate=0.5, mix=[1.0, 0.0]).labels
        for item in again
    ]
    assert torch.equal(torch.cat(one_by_one), batch.labels)  # a row's noise is its own


def test_translation_lm_positions_begin_again_and_languages_switch(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    batch = collated(items, context, name="translation_lm", languages=True, rate=0.5)
    assert batch.source.positions is not None and batch.source.languages is not None
    chosen = set(batch.places.tolist())
    for row, item in enumerate(items):
        first = len(vocab.encode(str(item.example.src_text))) + 2
        second = len(vocab.encode(str(item.example.tgt_text))) + 2
        length = first + second
        assert batch.source.lengths[row] == length
        positions = batch.source.positions[row, :length].tolist()
        assert positions == [*range(first), *range(second)]
        assert batch.source.languages[row, :length].tolist() == [0] * first + [1] * second
    width = batch.source.data.shape[1]
    sides = {p % width < len(vocab.encode("ein haus")) + 2 for p in chosen if p < width}
    assert sides == {True, False}  # both sides are masked


def test_sentences_of_a_document_end_each(
    example: Callable[..., Example], context: CollateContext, vocab: CharVocab
) -> None:
    item = Item(example=example(src_text="zwei\n\ndrei"), rng=np.random.default_rng(0))
    batch = collated([item], context, name="causal_lm")
    zwei, drei = vocab.encode("zwei"), vocab.encode("drei")
    assert batch.labels.tolist() == [*zwei, vocab.eos, *drei, vocab.eos]
    assert batch.source.data[0].tolist() == [vocab.bos, *zwei, vocab.eos, *drei]


def test_counts_steer_the_choice(
    items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    counts = count_tokens(["aab", "a"], vocab)
    a, b = vocab.encode("ab")
    assert counts[[a, b]].tolist() == [3, 1] and counts.sum() == 4
    counts[:] = 10**6
    counts[vocab.encode("h")[0]] = 1
    save_counts(counts, tmp_path / "counts.npy")
    named = {"name": "masked_lm", "counts": str(tmp_path / "counts.npy"), "rate": 0.2}
    hits = [
        collated([replace(items[0], rng=np.random.default_rng(i))], context, **named).labels
        for i in range(50)
    ]
    assert sum(int((h == vocab.encode("h")[0]).any()) for h in hits) > 45
    save_counts(counts[:-1], tmp_path / "counts.npy")
    with pytest.raises(StkError, match="count with the run's vocabulary"):
        collated(items, context, **named)
    with pytest.raises(StkError, match="no such file of counts"):
        collated(items, context, name="masked_lm", counts=str(tmp_path / "none.npy"))


def test_padding_is_invisible_and_the_future_too(vocab: CharVocab) -> None:
    model = language_model(vocab).double().eval()
    data = torch.randint(5, len(vocab), (2, 9))
    data[1, 5:] = 0
    languages = torch.randint(0, 3, (2, 9))
    source = Source(data, torch.tensor([9, 5]), languages=languages)
    short = Source(data[1:, :5], torch.tensor([5]), languages=languages[1:, :5])
    for causal_only in (False, True):
        states = model.encode(source, causal_only=causal_only).states
        alone = model.encode(short, causal_only=causal_only).states
        torch.testing.assert_close(states[1, :5], alone[0], rtol=1e-9, atol=1e-9)
        other = data.clone()
        other[0, 6] = 5 + (other[0, 6] - 4) % (len(vocab) - 5)
        changed = model.encode(replace(source, data=other), causal_only=causal_only).states
        assert torch.equal(states[0, :6], changed[0, :6]) == causal_only
    with pytest.raises(ValueError, match="languages: true"):
        model.encode(Source(data, source.lengths))


def test_both_stacks_from_the_language_model(
    vocab: CharVocab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without cross-attention keys only those differ from the language model."""
    source = language_model(vocab)
    translation = build_model(
        {
            "name": "text_transformer", "encoder_layers": 2, "decoder_layers": 2, "width": 32,
            "ffn": 64, "heads": 2, "norm": "post", "activation": "gelu", "positions": "learned",
            "max_positions": 512, "languages": 3, "embedding_norm": True,
            "embedding_scale": False, "output_bias": True,
        },
        {"src": len(vocab), "tgt": len(vocab)},
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in translation.state_dict().items()}
    monkeypatch.setattr("stk.training.init_from.resolve_checkpoint", Path)
    weights: Weights = dict(source.state_dict())
    monkeypatch.setattr("stk.training.init_from.read_weights", lambda path: weights)
    parts = ("embedding", "positions", "languages", "embedding_norm")
    components = {
        "encoder": "encoder",
        **{f"decoder.{part}": f"encoder.{part}" for part in parts},
        "decoder.layers": "encoder.stack.layers",
        "decoder.output_bias": "head.bias",
    }
    monkeypatch.setattr("stk.training.init_from._check_views", lambda *args: None)
    config = InitConfig(checkpoint="lm", components=components, spare="cross_attention")
    init_from(translation, config, {})
    with pytest.raises(StkError, match="matches no tensor"):
        init_from(translation, replace(config, spare="nothing"), {})
    for name, tensor in translation.state_dict().items():
        theirs = name.replace("decoder.layers", "encoder.stack.layers")
        theirs = theirs.replace("decoder.output_bias", "head.bias").replace("decoder.", "encoder.")
        if "cross_attention" in name:
            assert torch.equal(tensor, before[name])
        else:
            assert torch.equal(tensor, weights[theirs]), name
