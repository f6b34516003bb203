"""BART for translation: what step 1 trains, both steps as runs, what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import stk
from stk.config.run import FreezeConfig, InitConfig, RunConfig
from stk.config.strict import build
from stk.data.batch import Source
from stk.data.example import Example
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.bart_mt import BartMt
from stk.models.registry import build_model
from stk.models.text_transformer import TextTransformer
from stk.training.checkpoint import load_model
from stk.training.freeze import Freezer
from stk.training.init_from import init_from
from stk.training.loop import train
from stk.training.tensors import read_weights
from tests.test_docs import ROOT, blocks

SHAPE: dict[str, Any] = {
    "encoder_layers": 2, "decoder_layers": 2, "width": 16, "ffn": 24, "heads": 2, "norm": "post",
    "activation": "gelu", "positions": "learned", "max_positions": 30, "embedding_norm": True,
    "embedding_scale": False, "init_std": 0.02, "target_view": "en",
}  # fmt: skip
MT: dict[str, Any] = {"name": "bart_mt", **SHAPE, "source_layers": 2, "source_view": "ro"}
PAIRS = (("casa este veche", "the house is old"), ("trei mere", "three apples"), ("o", "a"))
BART_TRAINED = {
    "encoder.positions.weight",
    "decoder.positions.weight",
    "encoder.stack.layers.0.self_attention.qkv.weight",
    "encoder.stack.layers.0.self_attention.qkv.bias",
}


def tiny(**keys: Any) -> BartMt:
    """A model in fp64 with weights far from their initial values."""
    torch.manual_seed(1)
    model = build_model({**MT, **keys}, {"ro": 23, "en": 31})
    assert isinstance(model, BartMt)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def below(names: Any, prefix: str) -> set[str]:
    return {name for name in names if name.startswith(prefix)}


@pytest.mark.parametrize("keys", [{}, {"norm": "pre", "tie": "none"}, {"output_bias": True}])
def test_what_step_1_trains(keys: dict[str, Any]) -> None:
    model = tiny(**keys)
    Freezer(model, [FreezeConfig(pattern="bart_mt_source")]).apply(1)
    parameters = dict(model.named_parameters())
    source = below(parameters, "source.")
    assert {"source.embedding.weight", "source.positions.weight"} < source
    assert below(source, "source.stack.layers.1.")
    found = {name for name, parameter in parameters.items() if parameter.requires_grad}
    assert found == source | BART_TRAINED
    assert len(parameters) > len(found) + 40


def test_gradients_pass_through_what_is_frozen() -> None:
    model = tiny().train()
    freezer = Freezer(model, [FreezeConfig(pattern="bart_mt_source")])
    freezer.apply(1)
    freezer.quieten(1)
    assert model.source.stack.layers[0].training and not model.decoder.layers[0].training
    source = Source(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([3, 2]))
    tokens, lengths = torch.tensor([[2, 9, 30, 8], [2, 7, 0, 0]]), torch.tensor([4, 2])
    encoded = model.encode(source)
    assert encoded.states.shape == (2, 3, 16) and encoded.lengths.tolist() == [3, 2]
    decoded = model.decode(encoded, tokens, lengths)
    assert decoded.logits.shape == (2, 4, 31)
    decoded.logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached == parameter.requires_grad, name
    rows = model.source.embedding.weight.grad
    assert rows is not None and rows.any(1).nonzero()[:, 0].tolist() == [5, 6, 7, 8, 9]


@pytest.fixture
def vocabs(tmp_path: Path) -> dict[str, CharVocab]:
    """Two vocabularies, saved."""
    sides = zip(("ro", "en"), zip(*PAIRS, strict=True), strict=True)
    made = {view: CharVocab.of_texts(texts) for view, texts in sides}
    for view, vocab in made.items():
        vocab.save(tmp_path / view)
    assert len(made["ro"]) != len(made["en"])
    return made


@pytest.fixture
def denoiser(tmp_path: Path, vocabs: dict[str, CharVocab]) -> Path:
    """A BART of two updates."""
    with open(tmp_path / "train.jsonl", "w", encoding="utf-8") as file:
        for number, (source, target) in enumerate(PAIRS):
            row = {"id": str(number), "src_text": source, "tgt_text": target}
            file.write(json.dumps(row) + "\n")
    model = {"name": "text_transformer", **SHAPE, "source_view": "en", "tie": "all"}
    task = {"name": "denoising", "text": "tgt_text", "view": "en"}
    return run(tmp_path, "bart", model=model, task=task, views=("en",))


def run(
    place: Path, name: str, *, model: Any, task: Any, views: tuple[str, ...], **keys: Any
) -> Path:
    """Train two updates, and say where."""
    stream = {
        "name": "s",
        "manifests": [str(place / "train.jsonl")],
        "objective": task,
        "batch": {"max_examples": 3},
    }
    data = {
        "output": str(place / name),
        "model": model,
        "vocabularies": {view: str(place / view) for view in views},
        "streams": [stream],
        "optim": {"lr": 0.01},
        "schedule": {"name": "constant"},
        "training": {"max_updates": 2, "workers": 0, "device": "cpu"},
    }
    train(build(RunConfig, data | keys))
    return place / name


def test_both_steps(denoiser: Path, tmp_path: Path) -> None:
    task = {"name": "cross_entropy", "source": "src_text", "source_view": "ro", "target_view": "en"}
    common: dict[str, Any] = {"model": MT, "task": task, "views": ("ro", "en")}
    parts = {"encoder": "encoder", "decoder": "decoder"}
    start = {"checkpoint": str(denoiser), "components": parts, "views": ["en"]}
    frozen = [{"pattern": "bart_mt_source"}]
    first = run(tmp_path, "first", **common, init_from=[start], freeze=frozen)
    goes_on = {"checkpoint": str(first), "components": {"source": "source", **parts}}
    second = run(tmp_path, "second", **common, init_from=[goes_on])

    bart, one, two = (
        read_weights(place / "last" / "model.safetensors") for place in (denoiser, first, second)
    )
    copied = below(one, "encoder.") | below(one, "decoder.")
    assert "encoder.embedding.weight" not in copied and set(one) == copied | below(one, "source.")
    moved = {name for name in copied if not torch.equal(one[name], bart[name])}
    assert moved == BART_TRAINED
    assert all(not torch.equal(one[name], two[name]) for name in one)

    translator = stk.load(second, beam=3, nbest=2, max_length=12)
    rows = [Example(id=source, src_text=source) for source, _ in PAIRS]
    together = translator.translate_examples(rows)
    for row, batched in zip(rows, together, strict=True):
        single = translator.translate(row.id)
        assert [c.tokens for c in single.nbest] == [c.tokens for c in batched.nbest]
        expected = pytest.approx([c.score for c in batched.nbest], abs=1e-5)
        assert [c.score for c in single.nbest] == expected
    assert len({one.nbest[0].score for one in together}) == len(rows)


def copy_bart(model: torch.nn.Module, denoiser: Path, vocabs: dict[str, CharVocab]) -> None:
    components = {"encoder": "encoder", "decoder": "decoder"}
    init_from(
        model, InitConfig(checkpoint=str(denoiser), components=components, views=("en",)), vocabs
    )


def test_what_is_copied_reads_vectors_as_the_denoiser_reads_tokens(
    denoiser: Path, vocabs: dict[str, CharVocab]
) -> None:
    sizes = {view: len(vocab) for view, vocab in vocabs.items()}
    model: Any = build_model(MT, sizes)
    copy_bart(model.eval(), denoiser, vocabs)
    bart = load_model(denoiser).model.eval()
    assert isinstance(bart, TextTransformer)
    source = Source(torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([3, 2]))
    with torch.no_grad():
        expected = bart.encode(source)
        states = model.encoder(bart.encoder.embedding(source.data), source.lengths)
        torch.testing.assert_close(states, expected.states)
        logits = [m.decode(expected, source.data, source.lengths).logits for m in (model, bart)]
    torch.testing.assert_close(*logits)


def test_a_denoiser_that_does_not_fit(denoiser: Path, vocabs: dict[str, CharVocab]) -> None:
    sizes = {view: len(vocab) for view, vocab in vocabs.items()}
    with pytest.raises(StkError, match=r"of another shape: .*\(24, 32\) from \(24, 16\)"):
        copy_bart(build_model({**MT, "width": 32}, sizes), denoiser, vocabs)
    with pytest.raises(StkError, match="missing: encoder.stack.layers.2"):
        copy_bart(build_model({**MT, "encoder_layers": 3}, sizes), denoiser, vocabs)
    other = {**vocabs, "en": CharVocab(["q", *"abcdefghijklmnop"][: sizes["en"] - 5])}
    with pytest.raises(StkError, match="vocabulary 'en' differs"):
        copy_bart(build_model(MT, {**sizes, "en": len(other["en"])}), denoiser, other)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"source_layers": 0}, "source_layers must be at least 1"),
        ({"tie": "all"}, "use tie: decoder"),
        ({"languages": 2}, "no language embeddings"),
        ({"ctc_layer": 1}, "no CTC head"),
        ({"source_view": "de"}, "view 'de'"),
    ],
)
def test_wrong_configurations(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(StkError, match=message):
        tiny(**keys)


def test_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="bart_mt encodes token ids, not sound"):
        tiny().encode(Source(torch.zeros(1, 9, 8), torch.tensor([9])))


def test_the_documentation_shows_both_steps() -> None:
    """Step 1 freezes what it should; step 2, laid over it, copies all and freezes nothing."""
    shown = [yaml.safe_load(t) for t in blocks(ROOT / "docs" / "text_pretraining.md", "yaml")]
    place = [data.get("model", {}).get("name") for data in shown].index("bart_mt")
    before, first, second = shown[place - 1 : place + 2]
    with torch.device("meta"):
        bart = build_model(before["model"], dict.fromkeys(before["vocabularies"], 50))
        model = build_model(first["model"], dict.fromkeys(first["vocabularies"], 50))
    step_1, step_2 = build(RunConfig, first), build(RunConfig, first | second)
    Freezer(model, step_1.freeze).apply(1)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == below(names, "source.") | BART_TRAINED
    (copied,), theirs = step_1.init_from, bart.state_dict()
    for mine, source in copied.components.items():
        for name in below(model.state_dict(), f"{mine}."):
            assert theirs[source + name[len(mine) :]].shape == model.state_dict()[name].shape
    assert copied.checkpoint == before["output"]
    assert not step_2.freeze and step_2.init_from[0].checkpoint == step_1.output
    parts = {name.split(".")[0] for name in model.state_dict()}
    assert set(step_2.init_from[0].components) == parts
