"""Online back-translation: what is generated, and what trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.cli.judge import generator
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.batch import Item, Source
from stk.data.token_counts import save_counts
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.online_back_translation import BackTranslationBatch, OnlineBackTranslation
from stk.objectives.registry import build_objective
from stk.training.assemble import bind_generate

MODEL: dict[str, Any] = {
    "name": "text_transformer", "encoder_layers": 1, "decoder_layers": 1, "width": 16, "ffn": 16,
    "heads": 2, "dropout": 0.0,
}  # fmt: skip


def text_model(vocab: CharVocab, **changes: Any) -> Any:
    torch.manual_seed(1)
    return build_model({**MODEL, **changes}, {"src": len(vocab), "tgt": len(vocab)})


def bound(model: Any, vocab: CharVocab, directory: Path) -> Callable[..., list[list[int]]]:
    """``context.generate`` as a run offers it."""
    vocab.save(directory / "vocab")
    stream = {"name": "bt", "manifests": ["none.jsonl"], "batch": {"max_examples": 1}}
    run = {
        "output": "none",
        "model": MODEL,
        "vocabularies": {"tgt": str(directory / "vocab")},
        "streams": [{**stream, "objective": {"name": "online_back_translation", "other": "en"}}],
        "training": {"max_updates": 1},
    }
    found = bind_generate(generator(build(RunConfig, run)), model)
    assert found is not None
    return found


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("layout", ["tags", "plain"])
def test_trains_from_what_it_wrote_to_what_it_read(
    layout: str, items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    named = {"name": "online_back_translation", "other": "en", "layout": layout}
    objective = build_objective({**named, "languages": layout == "plain"})
    assert isinstance(objective, OnlineBackTranslation)
    model = text_model(vocab, languages=3 if layout == "plain" else 0)
    batch = objective.collate(items, context)
    assert isinstance(batch, BackTranslationBatch) and batch.target is not None
    asked: list[tuple[Source, list[list[int]]]] = []
    wanted: list[dict[str, Any]] = []

    def generate(
        source: Source, prefixes: Sequence[Sequence[int]], **options: Any
    ) -> list[list[int]]:
        asked.append((source, [list(prefix) for prefix in prefixes]))
        wanted.append(options)
        return [vocab.encode("a house"), vocab.encode("two"), []]

    back = objective.translated(batch, Context(generate=generate))
    tag, de = [vocab.tag("en")], [vocab.tag("de")]
    if layout == "plain":
        tag, de = [], []
    source, prefixes = asked[0]
    assert prefixes == [tag] * 3
    ids = [*vocab.encode("ein haus"), vocab.eos]
    assert source.data[0, : len(ids) + len(de)].tolist() == [*de, *ids]
    assert wanted[0]["limits"].tolist() == [int(1.3 * n) + 5 for n in (9, 5, 11)]
    assert wanted[0]["frames"] == [(vocab.bos, vocab.eos)] * 3 and not wanted[0]["banned"]
    assert back.data[0].tolist() == [*tag, *vocab.encode("a house"), vocab.eos]
    assert back.lengths.tolist() == [len(tag) + n + 1 for n in (7, 3, 0)]
    if layout == "plain":
        assert source.languages is not None and not source.languages.any()
        assert source.target_languages is not None and source.target_languages.tolist() == [1] * 3
        assert back.languages is not None and (back.languages == 1).all()
        assert back.target_languages is not None and not back.target_languages.any()
    labels = [t for i in items for t in (*vocab.encode(str(i.example.src_text)), vocab.eos)]
    assert batch.target.labels.tolist() == labels
    sums = objective.forward(model, batch, Context(generate=generate))
    trained = gradients(model, sums["loss"].value)
    logits = model.decode(model.encode(back), batch.target.inputs.data, batch.target.inputs.lengths)
    picked = logits.logits.flatten(0, 1)[batch.target.places]
    expected = torch.nn.functional.cross_entropy(picked, batch.target.labels, reduction="sum")
    torch.testing.assert_close(sums["loss"].value, expected)
    torch.testing.assert_close(trained, gradients(model, expected))  # the way back's alone
    with pytest.raises(StkError, match="cannot translate while it trains"):
        objective.forward(model, batch, Context())


def test_a_side_without_language_is_refused() -> None:
    with pytest.raises(StkError, match="layout: plain needs languages: true"):
        build_objective({"name": "online_back_translation", "other": "en", "layout": "plain"})


def test_mbart_s_layout(items: list[Item], context: CollateContext, vocab: CharVocab) -> None:
    """Sources are ``X </s> [LANG]``; the decoder begins and ends with its own language."""
    objective = build_objective(
        {"name": "online_back_translation", "other": "en", "layout": "mbart"}
    )
    assert isinstance(objective, OnlineBackTranslation)
    batch: Any = objective.collate(items, context)
    de, en, eos = vocab.tag("de"), vocab.tag("en"), vocab.eos
    ids = [*vocab.encode("ein haus"), eos]
    assert batch.source.data[0, : len(ids) + 1].tolist() == [*ids, de]
    assert batch.target.inputs.data[0, : len(ids) + 1].tolist() == [de, *ids]
    assert batch.target.labels[: len(ids) + 1].tolist() == [*ids, de]
    two = vocab.encode("two")

    def generate(source: Source, prefixes: Any, **options: Any) -> list[list[int]]:
        assert prefixes == [()] * 3 and options["frames"] == [(en, en)] * 3
        assert options["limits"].tolist() == [int(1.3 * n) + 5 for n in (9, 5, 11)]
        return [[*two, eos, *two, eos], two, []]  # a document, one that was cut, nothing

    back = objective.translated(batch, Context(generate=generate))
    rows = [row[:n].tolist() for row, n in zip(back.data, back.lengths.tolist(), strict=True)]
    assert rows == [[*two, eos, *two, eos, en], [*two, eos, en], [eos, en]]


@pytest.mark.parametrize("layout", ["tags", "mbart"])
def test_translations_are_bounded_while_they_are_written(
    layout: str, items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    """A model that never ends writes 1.3 times the text and 5, and no step more is computed."""
    model = text_model(vocab)
    step, steps = model.step, []

    def endless(tokens: torch.Tensor, state: Any) -> Any:
        logits, state = step(tokens, state)
        logits[..., [vocab.eos, vocab.tag("en")]] = -1e4
        steps.append(tokens)
        return logits, state

    model.step = endless
    objective: Any = build_objective(
        {"name": "online_back_translation", "other": "en", "layout": layout}
    )
    batch = objective.collate(items, context)
    back = objective.translated(batch, Context(generate=bound(model, vocab, tmp_path)))
    limits = [int(1.3 * n) + 5 for n in (9, 5, 11)]
    assert back.lengths.tolist() == [limit + 2 for limit in limits]  # tag and end symbol
    assert len(steps) == max(limits) + (2 if layout == "tags" else 1)


def test_translates_in_evaluation_mode_without_gradients(
    items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    model = text_model(vocab, dropout=0.5).train()
    model.decoder.eval()  # as a part that is frozen
    before = {name: module.training for name, module in model.named_modules()}
    assert set(before.values()) == {True, False}
    seen: list[tuple[bool, bool]] = []
    for part in (model.encoder, model.decoder):
        part.register_forward_pre_hook(
            lambda *_: seen.append(
                (any(m.training for m in model.modules()), torch.is_grad_enabled())
            )
        )
    objective: Any = build_objective({"name": "online_back_translation", "other": "en"})
    batch, generate = objective.collate(items, context), bound(model, vocab, tmp_path)
    first = objective.translated(batch, Context(generate=generate))
    assert seen and set(seen) == {(False, False)}
    assert {name: module.training for name, module in model.named_modules()} == before
    again = objective.translated(batch, Context(generate=generate))
    assert torch.equal(first.data, again.data)  # no dropout: nothing is drawn
    seen.clear()
    objective.forward(model, batch, Context(generate=generate))["loss"].value.backward()
    assert set(seen) == {(False, False), (True, True)} and seen[0] == (False, False)
    model.step = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        objective.translated(batch, Context(generate=generate))
    assert {name: module.training for name, module in model.named_modules()} == before


@pytest.mark.parametrize("layout", ["tags", "mbart"])
def test_rare_tokens_are_banned_until_an_update(
    layout: str, items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    """In update 1000 what is under 1 % of the text is not written, in update 1001 it is."""
    model, named = text_model(vocab), {"name": "online_back_translation", "other": "en"}
    generate = bound(model, vocab, tmp_path)
    free: Any = build_objective({**named, "layout": layout})
    batch = free.collate(items, context)
    rare, common, most = vocab.encode("hae")
    step = model.step

    def fond(tokens: torch.Tensor, state: Any) -> Any:  # of h, then of a, then of e
        logits, state = step(tokens, state)
        logits[..., [rare, common, most]] += torch.tensor([300.0, 200.0, 100.0])
        return logits, state

    model.step = fond
    written = free.translated(batch, Context(generate=generate)).data
    assert (written == rare).any() and not (written == common).any()
    counts = np.zeros(len(vocab), dtype=np.int64)
    counts[[rare, common, most]] = 99, 100, 9801  # 0.99 %, 1 % and the rest
    save_counts(counts, tmp_path / "counts.npy")
    ban = {"ban_below": 0.01, "ban_until": 1000, "counts": str(tmp_path / "counts.npy")}
    objective: Any = build_objective({**named, "layout": layout, **ban})
    objective.check_helpers({}, context)
    asked: list[list[int]] = []

    def looking(*args: Any, **options: Any) -> list[list[int]]:
        asked.append(options["banned"])
        return generate(*args, **options)

    for done in (0, 999):  # updates 1 and 1000
        now = objective.translated(batch, Context(step=done, generate=looking)).data
        assert not (now == rare).any() and (now == common).any()
    assert set(range(len(vocab))) - set(asked[-1]) == {vocab.eos, common, most}
    now = objective.translated(batch, Context(step=1000, generate=looking)).data
    assert torch.equal(now, written) and not asked[-1]


def test_bad_bans(context: CollateContext, vocab: CharVocab, tmp_path: Path) -> None:
    named = {"name": "online_back_translation", "other": "en"}
    path = str(tmp_path / "counts.npy")
    for bad in ({"ban_until": 1000}, {"counts": path}):
        with pytest.raises(StkError, match="ban_until and counts go together"):
            build_objective({**named, **bad})
    with pytest.raises(StkError, match="ban_below must lie in"):
        build_objective({**named, "ban_until": 9, "counts": path, "ban_below": 1.5})

    def checked(**more: Any) -> None:
        build_objective({**named, "ban_until": 9, "counts": path, **more}).check_helpers(
            {}, context
        )

    with pytest.raises(StkError, match="no such file of counts"):
        checked()
    save_counts(np.ones(len(vocab) + 1, dtype=np.int64), tmp_path / "counts.npy")
    with pytest.raises(StkError, match="count with the run's vocabulary"):
        checked()
    with pytest.raises(StkError, match="so all are banned"):
        checked(ban_below=0.5)
