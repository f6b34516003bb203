"""wav2vec 2.0: presets, masked predictions, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.registry import build_model
from stk.models.wav2vec2 import Wav2Vec2
from stk.models.wave import wave_shape

SMALL: dict[str, Any] = {
    "name": "wav2vec2",
    "layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "convolutions": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[12, 2, 2]] * 2],
    "position_kernel": 6,
    "position_groups": 4,
    "codes": 7,
    "target_dim": 8,
}


def tiny(**keys: Any) -> Wav2Vec2:
    torch.manual_seed(5)
    model = build_model({**SMALL, **keys}, {}, 1)
    assert isinstance(model, Wav2Vec2)
    return model


def test_presets() -> None:
    with torch.device("meta"):
        base, large, small, wide = (
            build_model({"name": "wav2vec2", "preset": name}, {}, 1)
            for name in ("base", "large", "tiny", "tiny_wide")
        )
    assert isinstance(base, Wav2Vec2) and isinstance(large, Wav2Vec2)
    assert tuple(base.quantizer.codebook.shape) == (2, 320, 128)
    assert tuple(large.quantizer.codebook.shape) == (2, 320, 384)
    assert base.config.temperature(10**7) == 0.5 and large.config.temperature(10**7) == 0.1
    assert (base.config.layer_drop, large.config.layer_drop) == (0.05, 0.0)
    assert (base.config.gradient_scale, large.config.gradient_scale) == (0.1, 1.0)
    assert not base.waveform_normalized and large.waveform_normalized
    assert base.wave_lengths(16000) == small.wave_lengths(16000) == 49
    assert wide.waveform_normalized and wide.wave_lengths(16320) == wide.wave_lengths(16000) + 1
    assert sum(p.numel() for p in small.parameters()) < 2_000_000


def test_masked_predictions() -> None:
    model = tiny().eval()
    source = Source(torch.randn(2, 6000), torch.tensor([6000, 4000]))
    places = torch.tensor([[1, 2, 3, 9], [0, 4, 5, 6]])
    out = model.contrast(source, places)
    assert out.predicted.shape == out.targets.shape == (2, 4, 8)
    assert out.quantized.codes.shape == (2, 4, 2)
    # targets are the unmasked features: other masks elsewhere leave them as they are
    moved = model.contrast(source, torch.tensor([[1, 2, 3, 10], [0, 4, 5, 7]]))
    torch.testing.assert_close(moved.targets[:, :3], out.targets[:, :3])
    assert not torch.allclose(moved.predicted[:, :3], out.predicted[:, :3])
    frames, lengths = model.encoder.features(source.data, source.lengths)
    energy = sum(frames[row, :n].square().mean(-1).sum() for row, n in enumerate(lengths.tolist()))
    torch.testing.assert_close(out.energy, energy)


def test_evaluation_gives_the_quantiser_no_gradient() -> None:
    source, places = Source(torch.randn(1, 6000), torch.tensor([6000])), torch.tensor([[1, 2, 3]])
    model = tiny().eval()
    model.contrast(source, places).targets.sum().backward()
    assert (
        model.quantizer.logits.weight.grad is None or not model.quantizer.logits.weight.grad.any()
    )
    model.train()
    model.contrast(source, places).targets.square().sum().backward()
    assert model.quantizer.logits.weight.grad is not None
    assert model.quantizer.logits.weight.grad.any()


def test_encoding_does_not_depend_on_the_batch() -> None:
    for keys in ({}, {"extractor_norm": "layer", "norm": "pre"}):
        model = tiny(**keys).double().eval()
        data = torch.randn(2, 6000, dtype=torch.float64)
        both = model.encode(Source(data, torch.tensor([6000, 4000])))
        single = model.encode(Source(data[1:, :4000], torch.tensor([4000])))
        count = int(single.lengths)
        torch.testing.assert_close(both.states[1, :count], single.states[0], rtol=1e-9, atol=1e-9)


def test_what_it_refuses() -> None:
    model = tiny()
    with pytest.raises(StkError, match="reads sound alone, and was given text .*source: audio"):
        model.encode(Source(torch.tensor([[5, 6]]), torch.tensor([2])))
    with pytest.raises(StkError, match=r"reads samples \(set features: \{kind: waveform\}\)"):
        build_model(SMALL, {}, 80)
    with pytest.raises(ValueError, match="not frames"):
        model.encode(Source(torch.randn(1, 9, 80), torch.tensor([9])))
    with pytest.raises(StkError, match="receptive field"):
        model.encode(Source(torch.randn(1, 399), torch.tensor([399])))
    with pytest.raises(StkError, match="target_dim must be a multiple"):
        tiny(target_dim=9)


def test_wave_shapes_by_name() -> None:
    assert wave_shape({}).layers == 12
    assert wave_shape({"preset": "large", "dropout": 0.2}).dropout == 0.2
    with pytest.raises(StkError, match="unknown wave preset 'larg'.*nearest: large"):
        wave_shape({"preset": "larg"})
    with pytest.raises(StkError, match="layer"):
        wave_shape({"layer": 3})
