"""Every objective learns one batch by heart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stk.data.batch import Item
from stk.data.vocab import CharVocab
from stk.models.encoder_decoder import EncoderDecoder
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch

SIZES: dict[str, Any] = {
    "encoder_layers": 2, "decoder_layers": 2, "width": 32, "ffn": 64, "heads": 2, "dropout": 0.0,
}  # fmt: skip
SPEECH = {**SIZES, "name": "speech_transformer", "conv_channels": 32}
TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mt_post": (
        {**SIZES, "name": "text_transformer", "norm": "post"},
        {"name": "cross_entropy", "source": "src_text", "prefix": "tgt_lang"},
    ),
    "mt_pre": (
        {**SIZES, "name": "text_transformer", "norm": "pre"},
        {"name": "cross_entropy", "source": "src_text"},
    ),
    "bart_mt": (
        {**SIZES, "name": "bart_mt", "source_layers": 1},
        {"name": "cross_entropy", "source": "src_text"},
    ),
    "st": (SPEECH, {"name": "cross_entropy", "prefix": "tgt_lang"}),
    "asr": (SPEECH, {"name": "cross_entropy", "target": "src_text", "prefix": "asr"}),
    "conv2d": ({**SPEECH, "subsampler": "conv2d", "conv_channels": 8}, {"name": "cross_entropy"}),
    "ctc": ({**SPEECH, "ctc_layer": 2}, {"name": "ctc", "ctc_text": "tgt_text"}),
    "joint": ({**SPEECH, "ctc_layer": 1}, {"name": "joint", "ctc_text": "tgt_text"}),
}


@pytest.mark.parametrize("name", TASKS)
def test_one_batch_is_learnt(
    name: str, items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    torch.manual_seed(1)
    named, task = TASKS[name]
    model = build_model(named, dict.fromkeys(("src", "tgt", "ctc"), len(vocab)), 20)
    assert isinstance(model, EncoderDecoder)
    objective = build_objective({**task, **({} if task["name"] == "ctc" else {"smoothing": 0.0})})
    module = ObjectiveModule(model, {"s": objective})
    batch = objective.collate(items, context)
    assert isinstance(batch, SequenceBatch)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        loss, sums = module("s", batch, Context(), objective.counts(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
    if batch.target is not None:
        assert float(sums["accuracy"].value) == len(batch.target.labels)
    if batch.ctc is not None:
        encoded = model.eval().encode(batch.source)
        assert encoded.ctc_logits is not None and encoded.ctc_lengths is not None
        for i, length in enumerate(encoded.ctc_lengths.tolist()):
            best = torch.unique_consecutive(encoded.ctc_logits[i, :length].argmax(-1))
            assert vocab.decode(best[best != 0].tolist()) == items[i].example.tgt_text
