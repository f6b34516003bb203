"""A wave encoder under a decoder: lengths, masks in training alone, an encoder that waits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stk.config.run import AugmentConfig, FeatureConfig, FreezeConfig
from stk.data.batch import Item, Padded, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.models.wav2vec2 import Wav2Vec2
from stk.models.wav2vec2_transformer import Wav2Vec2Transformer
from stk.objectives import task
from stk.objectives.base import CollateContext
from stk.objectives.ctc import ctc_sums
from stk.training.freeze import Freezer

VOCAB = 31
WAVE: dict[str, Any] = {
    "layers": 2,
    "width": 24,
    "ffn": 32,
    "heads": 2,
    "convolutions": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[12, 2, 2]] * 2],
    "position_kernel": 6,
    "position_groups": 4,
    "layer_drop": 0.0,
}
SMALL: dict[str, Any] = {
    "name": "wav2vec2_transformer",
    "decoder_layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "wave": WAVE,
}
SAMPLES = [9000, 4100, 400]


def tiny(dtype: torch.dtype = torch.float64, **keys: Any) -> Wav2Vec2Transformer:
    torch.manual_seed(1)
    model = build_model({**SMALL, **keys}, {"tgt": VOCAB}, 1)
    assert isinstance(model, Wav2Vec2Transformer)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.to(dtype).eval()


def recogniser() -> Wav2Vec2Transformer:
    torch.manual_seed(1)
    model = build_model({**SMALL, "ctc_layer": 2}, {"tgt": VOCAB, "ctc": 9}, 1)
    assert isinstance(model, Wav2Vec2Transformer)
    return model.double().eval()


def sound(dtype: torch.dtype = torch.float64) -> Source:
    torch.manual_seed(2)
    return Source(torch.randn(3, 9000, dtype=torch.float64).to(dtype), torch.tensor(SAMPLES))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["fp32", "fp64"]
)
def test_batch_equals_single(dtype: torch.dtype, tolerance: float) -> None:
    model, source = tiny(dtype), sound(dtype)
    data = source.data.clone()
    for row, length in enumerate(SAMPLES):
        data[row, length:] = torch.nan
    tokens, counts = torch.randint(2, VOCAB, (3, 4)), torch.tensor([4, 4, 4])
    with torch.no_grad():
        encoded = model.encode(Source(data, source.lengths))
        logits = model.decode(encoded, tokens, counts).logits
        for row, length in enumerate(SAMPLES):
            one = Source(source.data[row : row + 1, :length], source.lengths[row : row + 1])
            single = model.encode(one)
            close = {"rtol": tolerance, "atol": tolerance}
            states = encoded.states[row, : single.lengths[0]]
            torch.testing.assert_close(states, single.states[0], **close)
            alone = model.decode(single, tokens[row : row + 1], counts[:1]).logits
            torch.testing.assert_close(logits[row], alone[0], **close)


def test_the_memory_has_a_state_for_every_frame() -> None:
    model, source = tiny(), sound()
    encoded = model.encode(source)
    frames = [model.wave_lengths(samples) for samples in SAMPLES]
    assert encoded.lengths.tolist() == frames == [27, 12, 1]
    assert encoded.states.shape == (3, 27, 24)  # the wave encoder's width, not the decoder's


def test_a_ctc_head_reads_the_last_wave_layer() -> None:
    model, source = recogniser(), sound()
    encoded = model.encode(source)
    assert encoded.ctc_logits is not None and encoded.ctc_lengths is not None
    assert encoded.ctc_lengths.tolist() == [27, 12, 1]
    # Of the wave encoder's width, under the names that other models' heads have.
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if name[:4] == "ctc."}
    assert shapes == {"ctc.output.weight": (9, 24), "ctc.output.bias": (9,)}
    assert model.ctc is not None and model.ctc_lengths is not None
    torch.testing.assert_close(encoded.ctc_logits, model.ctc(encoded.states))
    assert [model.ctc_lengths(samples) for samples in SAMPLES] == [27, 12, 1]
    for row, length in enumerate(SAMPLES):
        one = Source(source.data[row : row + 1, :length], source.lengths[row : row + 1])
        alone = model.encode(one).ctc_logits
        assert alone is not None
        together = encoded.ctc_logits[row, : alone.shape[1]]
        torch.testing.assert_close(together, alone[0], rtol=1e-9, atol=1e-9)


def test_ctc_reaches_the_encoder_and_not_the_decoder() -> None:
    model, source = recogniser(), sound()
    encoded = model.encode(source)
    ctc_sums(encoded, Padded.stack([[1, 2], [3], [4]]), "tokens", 1.0)["ctc"].value.backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {"encoder", "ctc"}


def test_sizes_as_published() -> None:
    with torch.device("meta"):
        model = build_model({"name": "wav2vec2_transformer", "preset": "large"}, {"tgt": 10000}, 1)
        student = build_model({"name": "wav2vec2_transformer", "preset": "tiny"}, {"tgt": 99}, 1)
        whole = build_model({"name": "wav2vec2", "preset": "tiny"}, {}, 1)
    assert isinstance(model, Wav2Vec2Transformer) and isinstance(student, Wav2Vec2Transformer)
    assert isinstance(whole, Wav2Vec2) and model.waveform_normalized
    shape = model.decoder.shape
    assert (len(model.decoder.layers), shape.width, shape.ffn, shape.heads) == (7, 256, 2048, 4)
    assert len(model.encoder.stack.layers) == 24 and model.encoder.shape.layer_drop == 0.05
    names = [{n for n, _ in part.encoder.named_parameters()} for part in (student, whole)]
    assert names[0] == names[1]


def test_the_encoder_waits_and_then_learns() -> None:
    model = tiny(torch.float32)
    freezer = Freezer(model, [FreezeConfig(pattern="^encoder", until=3)])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    source, tokens, lengths = sound(torch.float32), torch.ones(3, 4).long(), torch.tensor([4, 3, 2])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for update in range(1, 6):
        freezer.apply(update)
        optimizer.zero_grad()
        model.decode(model.encode(source), tokens, lengths).logits.square().sum().backward()
        optimizer.step()
        same = {
            name: torch.equal(parameter.detach(), before[name])
            for name, parameter in model.named_parameters()
            if name.startswith("encoder.stack.layers")
        }
        assert all(same.values()) if update <= 3 else not any(same.values())


def item(samples: int, seed: int = 3) -> Item:
    example = Example(id="x", duration=samples / 16000, file=Path("m.jsonl"), row=1)
    waveform = torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1
    return Item(example=example, rng=np.random.default_rng(seed), waveform=waveform)


@pytest.fixture
def context() -> CollateContext:
    return CollateContext(
        vocabs={},
        frontend=FrontEnd(FeatureConfig(kind="waveform", cmvn="none")),
        augment=AugmentConfig(wave_mask_share=0.15, wave_mask_length=5),
        wave_lengths=tiny().wave_lengths,
    )


def test_masks_are_drawn_in_training_alone(context: CollateContext) -> None:
    config = task.SourceConfig()
    source = task.collate_source([item(160000), item(80000), item(1000)], config, context)
    assert source.masked is not None and source.masked.shape == (3, 499)
    shares = source.masked.float().sum(1) / torch.tensor([499, 249, 2])
    assert 0.08 < float(shares[0]) < 0.17 and 0.08 < float(shares[1]) < 0.17
    assert float(shares[2]) == 0.0  # too short for a span
    assert not source.masked[1, 249:].any()
    alone = task.collate_source([item(80000)], config, context).masked
    assert alone is not None and torch.equal(alone[0], source.masked[1, :249])
    decoding = dataclasses.replace(context, training=False)
    assert task.collate_source([item(160000)], config, decoding).masked is None
    deaf = dataclasses.replace(context, wave_lengths=None)
    with pytest.raises(StkError, match="wave_mask_share is for models with a wave encoder"):
        task.collate_source([item(160000)], config, deaf)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"name": "lna", "encoder_layers": 1},
        {"name": "xstnet", "encoder_layers": 1, "conv_channels": 12},
        {"name": "chimera", "encoder_layers": 1, "conv_channels": 12, "slots": 3},
        {**WAVE, "name": "wav2vec2", "codes": 7, "target_dim": 8},
    ],
    ids=["wav2vec2_transformer", "lna", "xstnet", "chimera", "wav2vec2"],
)
def test_masked_frames_are_not_heard(keys: dict[str, Any]) -> None:
    named = keys if keys.get("name") == "wav2vec2" else {**SMALL, **keys}
    torch.manual_seed(1)
    model = build_model(named, {"tgt": VOCAB}, 1).double().eval()
    source = sound()
    masked = torch.zeros(3, 27, dtype=torch.bool)
    masked[0, 10:20] = True
    plain, hidden = (
        model.encode(dataclasses.replace(source, masked=m)).states for m in (None, masked)
    )
    assert not torch.allclose(plain[0], hidden[0])
    torch.testing.assert_close(plain[1:], hidden[1:])


def test_what_it_refuses() -> None:
    with pytest.raises(StkError, match="reads sound alone, and was given text"):
        tiny().encode(Source(torch.tensor([[5, 6]]), torch.tensor([2])))
    with pytest.raises(StkError, match="receptive field"):
        tiny().encode(Source(torch.randn(1, 399).double(), torch.tensor([399])))
    with pytest.raises(StkError, match="reads samples"):
        build_model(SMALL, {"tgt": VOCAB}, 80)
    with pytest.raises(StkError, match="last wave layer: ctc_layer is 2"):
        tiny(ctc_layer=1)
    with pytest.raises(StkError, match="ctc_layer must lie between 1 and 2"):
        tiny(ctc_layer=3)
    with pytest.raises(StkError, match="'ctc'"):
        tiny(ctc_layer=2)
    with pytest.raises(ValueError, match="wave_mask_share"):
        AugmentConfig(wave_mask_share=1.0)
