"""Online back-translation: what is generated, and what trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from stk.data.batch import Item, Source
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.online_back_translation import BackTranslationBatch, OnlineBackTranslation
from stk.objectives.registry import build_objective

MODEL: dict[str, Any] = {
    "name": "text_transformer", "encoder_layers": 1, "decoder_layers": 1, "width": 16, "ffn": 16,
    "heads": 2, "dropout": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("layout", ["tags", "plain"])
def test_trains_from_what_it_wrote_to_what_it_read(
    layout: str, items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    named = {"name": "online_back_translation", "other": "en", "layout": layout}
    objective = build_objective({**named, "languages": layout == "plain"})
    assert isinstance(objective, OnlineBackTranslation)
    model: Any = build_model(
        {**MODEL, "languages": 3 if layout == "plain" else 0},
        {"src": len(vocab), "tgt": len(vocab)},
    )
    batch = objective.collate(items, context)
    assert isinstance(batch, BackTranslationBatch) and batch.target is not None
    asked: list[tuple[Source, list[list[int]]]] = []

    def generate(source: Source, prefixes: Sequence[Sequence[int]]) -> list[list[int]]:
        asked.append((source, [list(prefix) for prefix in prefixes]))
        return [vocab.encode("house") * 20, vocab.encode("two"), []]

    back = objective.translated(batch, Context(generate=generate))
    tag, de = [vocab.tag("en")], [vocab.tag("de")]
    if layout == "plain":
        tag, de = [], []
    source, prefixes = asked[0]
    assert prefixes == [tag] * 3
    ids = [*vocab.encode("ein haus"), vocab.eos]
    assert source.data[0, : len(ids) + len(de)].tolist() == [*de, *ids]
    assert not back.data.requires_grad and back.is_text  # ids carry no gradient
    cut = (vocab.encode("house") * 20)[: int(1.3 * len(ids)) + 5]
    assert back.data[0].tolist() == [*tag, *cut, vocab.eos]
    assert back.lengths.tolist() == [len(tag) + n + 1 for n in (len(cut), 3, 0)]
    if layout == "plain":
        assert source.languages is not None and not source.languages.any()
        assert source.target_languages is not None and source.target_languages.tolist() == [1] * 3
        assert back.languages is not None and (back.languages == 1).all()
        assert back.target_languages is not None and not back.target_languages.any()
    labels = [t for i in items for t in (*vocab.encode(str(i.example.src_text)), vocab.eos)]
    assert batch.target.labels.tolist() == labels
    sums = objective.forward(model, batch, Context(generate=generate))
    sums["loss"].value.backward()
    logits = model.decode(model.encode(back), batch.target.inputs.data, batch.target.inputs.lengths)
    picked = logits.logits.flatten(0, 1)[batch.target.places]
    expected = torch.nn.functional.cross_entropy(picked, batch.target.labels, reduction="sum")
    torch.testing.assert_close(sums["loss"].value, expected)
    with pytest.raises(StkError, match="cannot translate while it trains"):
        objective.forward(model, batch, Context())


def test_a_side_without_language_is_refused() -> None:
    with pytest.raises(StkError, match="layout: plain needs languages: true"):
        build_objective({"name": "online_back_translation", "other": "en", "layout": "plain"})
