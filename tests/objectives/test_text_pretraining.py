"""MASS, BART and mBART denoising, mRASP, packing of documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.run import BatchConfig, RunConfig, StreamConfig
from stk.config.strict import build, load_mapping
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.packing import pack_documents
from stk.data.stream import Stream
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.mass import MassBatch
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch
from stk.training.schedule import scalars_at

MODEL: dict[str, Any] = {
    "name": "text_transformer", "encoder_layers": 2, "decoder_layers": 2, "width": 32, "ffn": 64,
    "heads": 2, "dropout": 0.0, "norm": "post", "positions": "learned", "embedding_norm": True,
    "activation": "gelu", "languages": 3, "tie": "all",
}  # fmt: skip


def collated(items: list[Item], context: CollateContext, **named: Any) -> SequenceBatch:
    batch = build_objective(named).collate(items, context)
    assert isinstance(batch, SequenceBatch) and batch.target is not None
    return batch


@pytest.mark.parametrize(
    "named",
    [
        {"name": "mass", "languages": True},
        {"name": "denoising", "languages": True, "layout": "mbart", "infill": 0.35},
        {"name": "denoising", "languages": True, "layout": "tags", "shuffle": 3.0, "drop": 0.1},
    ],
)
def test_one_batch_is_learnt(
    named: dict[str, Any], items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    torch.manual_seed(1)
    model = build_model(MODEL, {"src": len(vocab), "tgt": len(vocab)})
    objective = build_objective(named)
    module, batch = ObjectiveModule(model, {"s": objective}), objective.collate(items, context)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = 0.0
    for step in range(100):
        loss, _ = module("s", batch, Context(), objective.counts(batch))
        first = first or float(loss.detach())
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < min(0.3, first / 5)


def test_mass_predicts_what_it_hides_where_it_stood(
    example: Callable[..., Example], context: CollateContext, vocab: CharVocab
) -> None:
    text = "drei affen zwei ein haus"
    tokens = [*vocab.encode(text), vocab.eos]
    kinds = Counter[str]()
    for seed in range(200):
        item = Item(example=example(src_text=text), rng=np.random.default_rng(seed))
        batch = collated([item], context, name="mass")
        assert isinstance(batch, MassBatch) and batch.target is not None
        source, labels = batch.source.data[0].tolist(), batch.target.labels.tolist()
        k, begin = len(labels), int(batch.places[0, 0])
        assert abs(k - len(tokens) / 2) <= 0.5 and labels == tokens[begin : begin + k]
        assert batch.places[0].tolist() == list(range(begin, begin + k))  # not reset
        read = [vocab.bos, *tokens][begin : begin + k]
        assert batch.target.inputs.data[0].tolist() == read
        changed = {i for i, (a, b) in enumerate(zip(source, tokens, strict=True)) if a != b}
        assert changed <= set(range(begin, begin + k))  # what is hidden is what is predicted
        assert batch.shown[0].tolist() == [t != vocab.mask for t in source]
        for place in range(begin, begin + k):
            same, masked = source[place] == tokens[place], source[place] == vocab.mask
            kinds["same" if same else "mask" if masked else "random"] += 1
    total = sum(kinds.values())
    assert abs(kinds["mask"] / total - 0.8) < 0.03
    assert abs(kinds["random"] / total - 0.1) < 0.03 and abs(kinds["same"] / total - 0.1) < 0.03


def test_mass_decoder_does_not_see_masks(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    """Equal to a decoder over the shown states alone."""
    torch.manual_seed(1)
    model: Any = build_model({**MODEL, "languages": 0}, {"src": len(vocab), "tgt": len(vocab)})
    model = model.double().eval()
    objective = build_objective({"name": "mass"})
    batch = objective.collate(items, context)
    assert isinstance(batch, MassBatch)
    loss = float(objective.forward(model, batch, Context())["loss"].value.detach())
    expected = 0.0
    for row in range(len(items)):
        states = model.encode(batch.source).states[row : row + 1, batch.shown[row]]
        assert batch.target is not None
        count = int(batch.target.inputs.lengths[row])
        inputs = batch.target.inputs.data[row : row + 1, :count]
        places = batch.places[row : row + 1, :count]
        lengths = torch.tensor([states.shape[1]])
        out = model.decoder(inputs, torch.tensor([count]), states, lengths, places=places)
        logits = model.project(out)[0]
        begin = int(batch.target.inputs.lengths[:row].sum())
        labels = batch.target.labels[begin : begin + count]
        expected += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    assert loss == pytest.approx(expected, rel=1e-6)


def test_language_ids_of_mbart(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    batch = collated(items, context, name="denoising", layout="mbart", infill=0.35)
    assert batch.target is not None
    tag, offset = vocab.tag("de"), 0
    for row, item in enumerate(items):
        ids = [*vocab.encode(str(item.example.src_text)), vocab.eos]
        length = int(batch.source.lengths[row])
        assert batch.source.data[row, length - 2 : length].tolist() == [vocab.eos, tag]
        count = int(batch.target.inputs.lengths[row])
        assert batch.target.inputs.data[row, :count].tolist() == [tag, *ids]
        assert batch.target.labels[offset : offset + count].tolist() == [*ids, tag]
        offset += count


def test_plain_and_tagged_layouts(
    items: list[Item], context: CollateContext, vocab: CharVocab
) -> None:
    """Without noise: what cross-entropy from a text to itself reads."""
    quiet = {"name": "denoising", "permute": False, "infill": 0.0}
    same = {"name": "cross_entropy", "source": "src_text", "target": "src_text"}
    same |= {"target_view": "src"}
    tagged = {"source_prefix": "src_lang", "prefix": "src_lang"}
    for ours, theirs in (
        (collated(items, context, **quiet), collated(items, context, **same)),
        (
            collated(items, context, **quiet, layout="tags"),
            collated(items, context, **same, **tagged),
        ),
    ):
        assert ours.target is not None and theirs.target is not None
        assert torch.equal(ours.source.data, theirs.source.data)
        assert torch.equal(ours.target.inputs.data, theirs.target.inputs.data)
        assert torch.equal(ours.target.places, theirs.target.places)
        assert torch.equal(ours.target.labels, theirs.target.labels)


def test_weight_of_auto_encoding_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the recipe's own configuration has it, at the paper's length."""
    monkeypatch.setenv("UNMT_THIRD", "100000")
    unmt = Path(__file__).parents[2] / "recipes/bible_mt/conf/unmt.yaml"
    changes = ["schedule.total=300000", "training.max_updates=300000"]
    config = build(RunConfig, load_mapping(unmt, changes))
    weights = {stream.name: stream.objective.get("weight", 1.0) for stream in config.streams}
    assert weights["denoise-first"] == weights["denoise-second"] == "denoising"
    assert weights["back-first"] == weights["back-second"] == 1.0
    found = [scalars_at(config.scalars, step)["denoising"] for step in (0, 50000, 100000, 300000)]
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.0])


def test_mrasp_touches_the_source_alone(
    items: list[Item], context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    (tmp_path / "de-en.tsv").write_text("haus\thouse\nzwei\ttwo\ndrei\tthree\n")
    named: dict[str, Any] = {
        "name": "mrasp", "source": "src_text", "source_prefix": "src_lang", "prefix": "tgt_lang",
        "lexicons": {"de-en": str(tmp_path / "de-en.tsv")}, "substitute": 1.0,
    }  # fmt: skip
    batch = collated(items, context, **named)
    plain = {k: v for k, v in named.items() if k not in ("lexicons", "substitute")}
    before = collated(items, context, **{**plain, "name": "cross_entropy"})
    assert batch.target is not None and before.target is not None
    assert torch.equal(batch.target.labels, before.target.labels)
    assert torch.equal(batch.target.inputs.data, before.target.inputs.data)
    texts = ["ein house", "two", "three affen"]
    for row, text in enumerate(texts):
        ids = [vocab.tag("de"), *vocab.encode(text), vocab.eos]
        assert batch.source.data[row, : len(ids)].tolist() == ids
    idle = collated(items, replace(context, training=False), **named)
    assert torch.equal(idle.source.data, before.source.data)
    with pytest.raises(StkError, match="lexicons: name at least one"):
        build_objective({**named, "lexicons": {}})
    (tmp_path / "de-en.tsv").write_text("")
    with pytest.raises(StkError, match=r"de-en\.tsv: the lexicon is empty"):
        build_objective(named).require(items[0].example)  # before the first update


def test_mrasp_draws_follow_from_seed_epoch_and_row(
    context: CollateContext, vocab: CharVocab, tmp_path: Path
) -> None:
    """Whoever loads a row, in whatever batch; new in every epoch; 0.3 of the words, evenly."""
    (tmp_path / "de-en.tsv").write_text("haus\thouse\nhaus\ttwo\nhaus\ttree\n")
    (tmp_path / "de-fr.tsv").write_text("haus\tensei\n")
    manifest = tmp_path / "train.jsonl"
    row = {"src_text": " ".join(["haus"] * 50), "src_lang": "de", "tgt_text": "a", "tgt_lang": "en"}
    manifest.write_text("".join(json.dumps({"id": str(i), **row}) + "\n" for i in range(20)))
    lexicons = {f"de-{code}": str(tmp_path / f"de-{code}.tsv") for code in ("en", "fr")}
    named = {"name": "mrasp", "source": "src_text", "lexicons": lexicons}
    config = StreamConfig(
        name="pairs",
        manifests=(str(manifest),),
        objective=named,
        batch=BatchConfig(max_examples=20),
    )

    def sources(rows: list[int], seed: int = 1, epoch: int = 0) -> list[str]:
        stream = Stream(config, build_objective(named), context)  # a new one every time
        batch, _ = stream.load(np.array(rows), seed=seed, epoch=epoch)
        assert isinstance(batch, SequenceBatch)
        return [vocab.decode(ids) for ids in batch.source.data.tolist()]

    every = sources(list(range(20)))
    assert sources([7, 3, 11]) == [every[7], every[3], every[11]]
    assert sources([3]) == [every[3]]
    assert len(set(every)) == 20  # alike rows draw apart
    for other in (sources(list(range(20)), epoch=1), sources(list(range(20)), seed=2)):
        assert not set(other) & set(every)
    words = Counter(word for epoch in range(4) for text in sources(list(range(20)), epoch=epoch)
                    for word in text.split())  # fmt: skip
    total = sum(words.values())
    assert total == 4000 and set(words) == {"haus", "house", "two", "tree", "ensei"}
    assert abs(1 - words["haus"] / total - 0.3) < 0.03  # four deviations
    for word, share in (("ensei", 1 / 2), ("house", 1 / 6), ("two", 1 / 6), ("tree", 1 / 6)):
        assert abs(words[word] / (total - words["haus"]) - share) < 0.06


def test_packs_never_cross_documents(example: Callable[..., Example], vocab: CharVocab) -> None:
    rows = [
        example(id=f"{doc}{i}", doc=doc, src_text="ein haus")
        for doc, count in (("a", 5), ("b", 2))
        for i in range(count)
    ]
    rows.append(example(id="alone", doc=None, src_text="zwei"))
    packed = list(pack_documents(rows, vocab, limit=28))  # 3 * (8 + 1) + 1
    shapes = [(row.id, row.doc, str(row.src_text).count("\n") + 1) for row in packed]
    assert shapes == [("a0", "a", 3), ("a3", "a", 2), ("b0", "b", 2), ("alone", None, 1)]
    assert all(row.audio is None and row.tgt_text is None for row in packed)
    assert len(list(pack_documents(rows, vocab, limit=27))) == 5
    with pytest.raises(StkError, match=r"m\.jsonl:3: example 'a0' has 9 tokens, more than"):
        list(pack_documents(rows, vocab, limit=9))
