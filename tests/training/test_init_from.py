"""Components are copied completely or not at all."""

import json

import pytest
import torch

from stk.config.run import InitConfig
from stk.data.vocab import CharVocab, load_vocab
from stk.errors import StkError
from stk.models.registry import build_model
from stk.training.checkpoint import load_state
from stk.training.init_from import init_from
from stk.training.loop import train
from stk.training.tensors import read_weights


@pytest.fixture
def trained(config, tmp_path):
    train(config(training={"max_updates": 2, "worst_batch_first": False}))
    return tmp_path / "run"


def fresh(config, vocabs, **changes):
    torch.manual_seed(99)
    named = {**config().model, **changes}
    return build_model(named, {view: len(v) for view, v in vocabs.items()})


def test_copies_are_bit_equal_and_the_rest_is_not_touched(trained, config, tmp_path):
    vocabs = {"text": load_vocab(tmp_path / "vocab")}
    model = fresh(config, vocabs, tie="none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source = read_weights(trained / "last" / "model.safetensors")
    copied = init_from(
        model, InitConfig(checkpoint=str(trained), components={"encoder": "encoder"}), vocabs
    )
    assert copied.names and all(name.startswith("encoder.") for name in copied.names)
    for name, tensor in model.state_dict().items():
        origin = source[name] if name in copied.names else before[name]
        assert torch.equal(tensor, origin)


def test_a_component_under_another_name(trained, config, tmp_path):
    vocabs = {"text": load_vocab(tmp_path / "vocab")}
    model = fresh(config, vocabs)
    components = {"encoder.stack": "encoder.stack"}
    init_from(model, InitConfig(checkpoint=str(trained), components=components), vocabs)
    with pytest.raises(StkError, match="this model has no component 'enc'.*decoder, encoder"):
        init_from(model, InitConfig(checkpoint=str(trained), components={"enc": "encoder"}), vocabs)
    with pytest.raises(StkError, match="the checkpoint has no component 'enc'"):
        init_from(model, InitConfig(checkpoint=str(trained), components={"encoder": "enc"}), vocabs)
    with pytest.raises(StkError, match="no such checkpoint"):
        init_from(
            model, InitConfig(checkpoint="nowhere", components={"encoder": "encoder"}), vocabs
        )


def test_anything_missing_or_misshapen_is_listed(trained, config, tmp_path):
    vocabs = {"text": load_vocab(tmp_path / "vocab")}
    wanted = InitConfig(checkpoint=str(trained), components={"encoder": "encoder"})
    deeper = fresh(config, vocabs, encoder_layers=2)
    before = {name: tensor.clone() for name, tensor in deeper.state_dict().items()}
    with pytest.raises(StkError, match=r"covers \d+ of \d+ tensors; missing: encoder.stack.*1\."):
        init_from(deeper, wanted, vocabs)
    wider = fresh(config, vocabs, ffn=48)
    with pytest.raises(StkError, match=r"of another shape: encoder.*\(48, 16\) from \(32, 16\)"):
        init_from(wider, wanted, vocabs)
    assert all(torch.equal(before[name], t) for name, t in deeper.state_dict().items())


def test_another_order_of_tokens_is_refused(trained, config, tmp_path):
    vocab = load_vocab(tmp_path / "vocab")
    specials = 5
    characters = [vocab.piece(i) for i in range(specials, len(vocab))]
    other = {"text": CharVocab(characters[::-1])}
    assert len(other["text"]) == len(vocab)
    model = fresh(config, other)
    components = {"decoder": "decoder"}
    with pytest.raises(StkError, match="vocabulary 'text' differs"):
        init_from(model, InitConfig(checkpoint=str(trained), components=components), other)
    with pytest.raises(StkError, match="view 'tgt' is not in both"):
        wanted = InitConfig(checkpoint=str(trained), components=components, views=("tgt",))
        init_from(model, wanted, other)
    layers = {"encoder.stack": "encoder.stack"}
    init_from(model, InitConfig(checkpoint=str(trained), components=layers), other)
    explicit = InitConfig(checkpoint=str(trained), components=components, views=())
    assert init_from(model, explicit, other).names


def test_a_run_starts_with_an_empty_optimiser(trained, config, tmp_path, capsys):
    part = {"checkpoint": str(trained), "components": {"encoder": "encoder", "decoder": "decoder"}}
    train(config(output=str(tmp_path / "tuned"), init_from=[part], training={"max_updates": 1}))
    assert f"tensors from {(trained / 'last').resolve()}" in capsys.readouterr().err
    state = load_state(tmp_path / "tuned" / "last")
    assert {float(entry["step"]) for entry in state["optimizer"].values()} == {1.0}
    first = json.loads((tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["update"] == 1
