"""The classification head: what it reads, what it learns, what starts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.run import InitConfig, RunConfig
from stk.config.strict import build
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective
from stk.training.init_from import init_from
from stk.training.loop import train
from stk.training.metrics import read_metrics

LABELS = ["entailment", "neutral", "contradiction"]
SMALL = {"layers": 1, "width": 16, "ffn": 32, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0}
NAMED: dict[str, Any] = {"name": "classification", "labels": LABELS}


@pytest.fixture
def pairs(example: Callable[..., Example]) -> list[Item]:
    texts = ("ein haus\nzwei", "zwei\ndrei affen", "drei\nein")
    return [
        Item(
            example=example(id=str(i), src_text=text, tgt_text=label),
            rng=np.random.default_rng(i),
        )
        for i, (text, label) in enumerate(zip(texts, LABELS, strict=True))
    ]


def test_a_pair_is_one_row(pairs: list[Item], context: CollateContext, vocab: CharVocab) -> None:
    batch: Any = build_objective(NAMED).collate(pairs, context)
    first = [vocab.bos, *vocab.encode("ein haus"), vocab.eos, *vocab.encode("zwei"), vocab.eos]
    assert batch.source.data[0, : len(first)].tolist() == first
    assert batch.classes.tolist() == [0, 1, 2]
    with_languages: Any = build_objective({**NAMED, "languages": True}).collate(pairs, context)
    assert (with_languages.source.languages == 0).all()


def test_one_batch_is_learnt_and_padding_is_not_seen(
    pairs: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    torch.manual_seed(1)
    model: Any = build_model(
        {"name": "text_classifier", **SMALL, "classes": 3, "head_dropout": 0.0}, {"src": len(vocab)}
    )
    objective = build_objective(NAMED)
    batch: Any = objective.collate(pairs, context)
    module = ObjectiveModule(model, {"s": objective})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss, sums = module("s", batch, Context(), objective.counts(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 and float(sums["accuracy"].value) == 3.0
    model.eval()
    alone: Any = objective.collate(pairs[2:], context)
    torch.testing.assert_close(
        model.classify(alone.source)[0], model.classify(batch.source)[2], rtol=1e-5, atol=1e-5
    )


def test_only_the_first_state_is_read(
    pairs: list[Item],
    context: CollateContext,
    vocab: CharVocab,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    model: Any = build_model(
        {"name": "text_classifier", **SMALL, "classes": 3}, {"src": len(vocab)}
    )
    model.eval()
    batch: Any = build_objective(NAMED).collate(pairs, context)
    before, encoded = model.classify(batch.source), model.encode(batch.source)
    changed = encoded.states.clone()
    monkeypatch.setattr(model, "encode", lambda source: replace(encoded, states=changed))
    changed[:, 1:] = torch.randn_like(changed[:, 1:])
    assert torch.equal(model.classify(batch.source), before)
    changed[:, 0] += torch.randn_like(changed[:, 0])
    assert not torch.isclose(model.classify(batch.source), before).any(dim=1).all()


def test_faults(
    pairs: list[Item], context: CollateContext, vocab: CharVocab, example: Callable[..., Example]
) -> None:
    objective = build_objective(NAMED)
    with pytest.raises(StkError, match=r"m\.jsonl:3: .* has the label 'maybe' \(labels: entail"):
        objective.require(example(tgt_text="maybe"))
    two: Any = build_model({"name": "text_classifier", **SMALL, "classes": 2}, {"src": len(vocab)})
    with pytest.raises(StkError, match="the model has 2 classes, but there are 3 labels"):
        objective.forward(two, objective.collate(pairs, context), Context())
    with pytest.raises(StkError, match="name at least two"):
        build_objective({"name": "classification", "labels": ["a"]})
    with pytest.raises(StkError, match="classes must be at least 2"):
        build_model({"name": "text_classifier", **SMALL, "classes": 1}, {"src": 20})


def test_a_language_model_starts_it_and_languages_are_told_apart(tmp_path: Path) -> None:
    """Pre-trained encoder in, tuned on English, accuracy and perplexity in every language."""
    vocab = CharVocab.of_texts(["abcdef "], ("en", "de"))
    vocab.save(tmp_path / "vocab")
    rows = [
        Example(id=f"{lang}{i}", src_text=text, src_lang=lang, tgt_text=label, tgt_lang="en")
        for lang in ("en", "de")
        for i, (text, label) in enumerate((("ab\nab", "same"), ("ab\ncd", "other")) * 4)
    ]
    write_manifest(tmp_path / "train.jsonl", rows)
    base = {
        "vocabularies": {"src": str(tmp_path / "vocab")},
        "optim": {"lr": 0.01},
        "schedule": {"name": "constant", "warmup": 0},
        "training": {"max_updates": 2, "workers": 0, "log_every": 1, "device": "cpu"},
        "checkpoint": {"every": 2},
    }

    def stream(**objective: Any) -> dict[str, Any]:
        one = {"name": "dev", "manifests": [str(tmp_path / "train.jsonl")]}
        return {
            **one,
            "objective": objective,
            "batch": {"max_examples": 4},
            "group_by": ["src_lang"],
        }

    def run(output: Path, model: dict[str, Any], **objective: Any) -> dict[str, float]:
        part = stream(**objective)
        config = {"output": str(output), "model": {**SMALL, **model}, "streams": [part]}
        config["validation"] = {"streams": [part], "every": 2}
        train(build(RunConfig, {**base, **config}))
        (found,) = (m for m in read_metrics(output / "metrics.jsonl") if m["kind"] == "valid")
        return found

    lm = run(tmp_path / "lm", {"name": "language_model"}, name="masked_lm")
    for key in ("dev", "dev/en", "dev/de"):
        assert lm[f"{key}/perplexity"] == pytest.approx(np.exp(lm[f"{key}/nll"]))
    assert lm["dev/en/nll"] != lm["dev/de/nll"]  # masks differ
    assert lm["loss"] == pytest.approx(lm["dev/nll"])
    labels = ["same", "other"]
    xnli = run(
        tmp_path / "xnli",
        {"name": "text_classifier", "classes": 2},
        name="classification",
        labels=labels,
    )
    assert set(xnli) >= {"dev/accuracy", "dev/en/accuracy", "dev/de/accuracy"}
    mean = (xnli["dev/en/accuracy"] + xnli["dev/de/accuracy"]) / 2
    assert xnli["dev/accuracy"] == pytest.approx(mean)
    assert not any(key.endswith("perplexity") for key in xnli)
    model: Any = build_model(
        {"name": "text_classifier", **SMALL, "classes": 2}, {"src": len(vocab)}
    )
    start = InitConfig(checkpoint=str(tmp_path / "lm"), components={"encoder": "encoder"})
    copied = init_from(model, start, {"src": vocab})
    assert all(name.startswith("encoder.") for name in copied.names)
    assert len(copied.names) == len(list(model.state_dict())) - 2  # output.weight, output.bias
