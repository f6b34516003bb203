"""LNA: the adaptor's lengths, what trains under each named pattern, text beside sound."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stk.config.run import FreezeConfig
from stk.data.batch import Source
from stk.errors import StkError
from stk.models.lna import Lna
from stk.models.registry import build_model
from stk.training.freeze import Freezer

VOCAB = 31
SMALL: dict[str, Any] = {
    "name": "lna",
    "encoder_layers": 1,
    "decoder_layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "max_positions": 40,
    "wave": {
        "layers": 1,
        "width": 16,
        "ffn": 24,
        "heads": 2,
        "convolutions": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[12, 2, 2]] * 2],
        "position_kernel": 6,
        "position_groups": 4,
        "norm": "pre",
        "extractor_norm": "layer",
        "layer_drop": 0.0,
    },
}
NORM = ("weight", "bias")

WAVE_TRAINED = {
    f"encoder.wave.{part}.{kind}"
    for part in (
        "feature_norm",
        "stack.norm",
        "stack.layers.0.self_attention.qkv",
        "stack.layers.0.self_attention.output",
        "stack.layers.0.self_attention_norm",
        "stack.layers.0.feed_forward_norm",
    )
    for kind in NORM
}
DECODER_CROSS = {
    f"decoder.layers.{i}.{part}.{kind}"
    for i in range(2)
    for part in (
        "cross_attention.query",
        "cross_attention.memory",
        "cross_attention.output",
        "cross_attention_norm",
        "self_attention_norm",
        "feed_forward_norm",
    )
    for kind in NORM
} | {"decoder.norm.weight", "decoder.norm.bias"}
DECODER_SELF = {
    f"decoder.layers.{i}.self_attention.{part}.{kind}"
    for i in range(2)
    for part in ("qkv", "output")
    for kind in NORM
}


def tiny(dtype: torch.dtype = torch.float64, **keys: Any) -> Lna:
    torch.manual_seed(1)
    model = build_model({**SMALL, **keys}, {"tgt": VOCAB}, 1)
    assert isinstance(model, Lna)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.to(dtype).eval()


def trained(model: Lna) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def below(model: Lna, prefix: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("pattern", "wave", "decoder"),
    [
        ("lna_e", WAVE_TRAINED, None),
        ("lna_d", None, DECODER_CROSS | DECODER_SELF),
        ("lna_ed", WAVE_TRAINED, DECODER_CROSS | DECODER_SELF),
        ("lna_minimal", WAVE_TRAINED, DECODER_CROSS),
    ],
)
def test_what_trains(pattern: str, wave: set[str] | None, decoder: set[str] | None) -> None:
    model = tiny(text_encoder=True)
    Freezer(model, [FreezeConfig(pattern=pattern)]).apply(1)
    expected = below(model, "encoder.adaptor.") | below(model, "text_encoder.")
    expected |= below(model, "encoder.wave.") if wave is None else wave
    expected |= below(model, "decoder.") if decoder is None else decoder
    # the table of tokens is the decoder's, and is seen once, below the decoder
    assert trained(model) == expected
    assert len(below(model, "encoder.adaptor.")) == 6


def test_frozen_tensors_stay_as_they_are_and_their_dropout_is_off() -> None:
    model = tiny(torch.float32)
    freezer = Freezer(model, [FreezeConfig(pattern="lna_ed")])
    freezer.apply(1)
    model.train()
    freezer.quieten(1)
    assert not model.encoder.wave.extractor.training and not model.decoder.embedding.training
    feed_forward = model.decoder.get_submodule("layers.0.feed_forward")
    assert not feed_forward.training and model.encoder.adaptor.training
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    source = Source(torch.randn(2, 9000), torch.tensor([9000, 5000]))
    tokens, lengths = torch.randint(5, VOCAB, (2, 4)), torch.tensor([4, 3])
    for _ in range(10):
        optimizer.zero_grad()
        model.decode(model.encode(source), tokens, lengths).logits.square().sum().backward()
        optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p.detach(), before[n])}
    assert moved == trained(model)


def test_a_named_set_of_another_model() -> None:
    text = build_model({"name": "xstnet", "preset": "tiny"}, {"tgt": VOCAB}, 1)
    with pytest.raises(StkError, match="'lna_ed' matches no parameter"):
        Freezer(text, [FreezeConfig(pattern="lna_ed")])
    with pytest.raises(StkError, match="'lna_d' is a named set"):
        Freezer(tiny(), [FreezeConfig(pattern="lna_d", spare="norm")])


def test_three_halvings_rounded_up() -> None:
    model = tiny()
    for samples, frames, states in ((16000, 49, 7), (400, 1, 1), (9000, 27, 4)):
        source = Source(torch.randn(1, samples).double(), torch.tensor([samples]))
        encoded = model.encode(source)
        assert int(model.wave_lengths(samples)) == frames
        assert encoded.lengths.tolist() == [states] and encoded.states.shape == (1, states, 16)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["fp32", "fp64"]
)
def test_batch_equals_single(dtype: torch.dtype, tolerance: float) -> None:
    model = tiny(dtype)
    torch.manual_seed(2)
    data, lengths = torch.randn(3, 9000).to(dtype), torch.tensor([9000, 3000, 400])
    padded = data.masked_fill(torch.arange(9000) >= lengths[:, None], torch.nan)
    with torch.no_grad():
        encoded = model.encode(Source(padded, lengths))
        for row, length in enumerate(lengths.tolist()):
            single = model.encode(Source(data[row : row + 1, :length], lengths[row : row + 1]))
            count = int(single.lengths)
            assert encoded.lengths[row] == count
            torch.testing.assert_close(
                encoded.states[row, :count], single.states[0], rtol=tolerance, atol=tolerance
            )
            assert not encoded.states[row, count:].any()


def test_text_beside_sound() -> None:
    tokens = Source(torch.tensor([[5, 6, 7]]), torch.tensor([3]))
    model = tiny(text_encoder=True)
    assert model.text_encoder is not None
    assert model.text_encoder.embedding is model.decoder.embedding
    model.decode(model.encode(tokens), tokens.data, tokens.lengths).logits.sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert all(p.grad is not None for p in model.text_encoder.stack.parameters())
    with pytest.raises(StkError, match="no text encoder.*set model.text_encoder=true"):
        tiny().encode(tokens)


def test_presets() -> None:
    with torch.device("meta"):
        large = build_model({"name": "lna", "preset": "large"}, {"tgt": 250_000}, 1)
        build_model({"name": "lna", "preset": "tiny"}, {"tgt": 100}, 1)
    assert isinstance(large, Lna) and large.waveform_normalized
    assert len(large.encoder.wave.stack.layers) == 24 and len(large.decoder.layers) == 12
    assert large.decoder.embedding_norm is not None and large.decoder.norm is not None
    adaptor = [tuple(layer.weight.shape) for layer in large.encoder.adaptor.convolutions]
    assert adaptor == [(2048, 1024, 3)] * 3
    with pytest.raises(StkError, match="lna reads samples"):
        build_model(SMALL, {"tgt": VOCAB}, 80)
