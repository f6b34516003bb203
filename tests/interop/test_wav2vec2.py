"""Checkpoints of transformers and torchaudio give the numbers they give there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

from stk.cli.data import main as stk_data
from stk.data.batch import Source
from stk.errors import StkError
from stk.interop.wav2vec2 import read_wav2vec2, write_huggingface
from stk.modules.wave_encoder import WaveEncoder
from stk.training.checkpoint import load_model

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 10,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 9,
    "codevector_dim": 12,
    "proj_codevector_dim": 12,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "base": {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
}
LENGTHS = [6000, 3100]


def shaken(model: nn.Module) -> nn.Module:
    """Weights far from their initial values, where norms do nothing and biases are zero."""
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def huggingface(layout: str) -> Wav2Vec2ForPreTraining:
    torch.manual_seed(7)
    model = shaken(Wav2Vec2ForPreTraining(Wav2Vec2Config(**SIZES, **LAYOUTS[layout])))
    assert isinstance(model, Wav2Vec2ForPreTraining)
    return model


def clips() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(8)
    samples, lengths = torch.randn(2, LENGTHS[0]), torch.tensor(LENGTHS)
    real = torch.arange(LENGTHS[0]) < lengths[:, None]
    return samples * real, lengths, real.long()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_states_of_huggingface(layout: str, tmp_path: Path) -> None:
    other = huggingface(layout)
    other.save_pretrained(tmp_path)
    samples, lengths, mask = clips()
    with torch.no_grad():
        for padding in (False, True):
            model = read_wav2vec2(tmp_path, norm_over_padding=padding).model()
            encoded = model.encode(Source(samples, lengths))
            for row, count in enumerate(encoded.lengths.tolist()):
                if padding:  # as in their batch, whose statistics see padding in BASE
                    expected = other.wav2vec2(samples, attention_mask=mask).last_hidden_state[row]
                else:
                    alone = samples[row : row + 1, : LENGTHS[row]]
                    expected = other.wav2vec2(alone).last_hidden_state[0]
                torch.testing.assert_close(
                    encoded.states[row, :count], expected[:count], rtol=1e-4, atol=1e-4
                )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_predictions_and_targets_of_huggingface(layout: str, tmp_path: Path) -> None:
    other = huggingface(layout)
    other.save_pretrained(tmp_path)
    model = read_wav2vec2(tmp_path).model()
    samples = clips()[0][:1]
    places = torch.tensor([[1, 2, 3, 7, 8, 9]])
    masked = torch.zeros(1, int(model.wave_lengths(LENGTHS[0])), dtype=torch.bool)
    masked[0, places[0]] = True
    with torch.no_grad():
        expected = other(samples, mask_time_indices=masked)
        out = model.contrast(Source(samples, torch.tensor([LENGTHS[0]])), places)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(out.predicted, expected.projected_states[:, places[0]], **close)
    torch.testing.assert_close(
        out.targets, expected.projected_quantized_states[:, places[0]], **close
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_to_huggingface(layout: str, tmp_path: Path) -> None:
    other = huggingface(layout)
    other.save_pretrained(tmp_path / "theirs")
    model = read_wav2vec2(tmp_path / "theirs").model()
    write_huggingface(model, tmp_path / "ours")
    again, report = Wav2Vec2ForPreTraining.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values())
    state = other.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    back = read_wav2vec2(tmp_path / "ours")
    assert back.config == read_wav2vec2(tmp_path / "theirs").config
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.weights[name], tensor), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_states_of_torchaudio(layout: str, tmp_path: Path) -> None:
    torch.manual_seed(9)
    convolutions = [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2]
    other = torchaudio.models.wav2vec2_model(
        extractor_mode="group_norm" if layout == "base" else "layer_norm",
        extractor_conv_layer_config=convolutions,
        extractor_conv_bias=layout == "large",
        encoder_embed_dim=24,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=10,
        encoder_pos_conv_groups=4,
        encoder_num_layers=3,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=40,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=layout == "large",
        encoder_layer_drop=0.0,
        aux_num_out=None,
    )
    shaken(other)
    torch.save(other.state_dict(), tmp_path / "model.pth")
    imported = read_wav2vec2(tmp_path / "model.pth", layout="torchaudio", heads=4)
    assert "encoder.mask_vector" in imported.absent
    model, (samples, lengths, _) = imported.model(), clips()
    with torch.no_grad():
        encoded = model.encode(Source(samples, lengths))
        for row, count in enumerate(encoded.lengths.tolist()):
            expected, _ = other(samples[row : row + 1, : LENGTHS[row]])
            torch.testing.assert_close(
                encoded.states[row, :count], expected[0], rtol=1e-4, atol=1e-4
            )


def test_keys_that_are_not_understood_are_an_error(tmp_path: Path) -> None:
    torch.manual_seed(7)
    Wav2Vec2ForCTC(Wav2Vec2Config(**SIZES)).save_pretrained(tmp_path)
    with pytest.raises(
        StkError, match=r"not understood: lm_head.bias, lm_head.weight; missing: no"
    ):
        read_wav2vec2(tmp_path)
    imported = read_wav2vec2(tmp_path, ignore=["lm_head."])
    assert imported.absent == ("quantizer.", "target.", "context.")
    assert imported.model().config.width == 24
    with pytest.raises(
        StkError, match="model.safetensors: lacks encoder.*: no wav2vec 2.0 of torchaudio"
    ):
        read_wav2vec2(tmp_path / "model.safetensors", layout="torchaudio")


def test_a_checkpoint_of_the_other_norm_layout(tmp_path: Path) -> None:
    huggingface("base").save_pretrained(tmp_path)
    imported = read_wav2vec2(tmp_path)
    shape = read_wav2vec2(tmp_path).config
    encoder = WaveEncoder(shape)
    imported.load_into(encoder)
    assert torch.equal(encoder.projection.weight, imported.weights["encoder.projection.weight"])
    large = tmp_path / "large"
    huggingface("large").save_pretrained(large)
    message = "another layout than the model: norm pre instead of post, extractor_norm layer"
    with pytest.raises(StkError, match=message):
        read_wav2vec2(large).load_into(encoder)
    # the configuration of one beside the weights of the other
    (large / "config.json").write_text((tmp_path / "config.json").read_text())
    with pytest.raises(
        StkError, match="keys not understood: feature_extractor.conv_layers.0.conv.b"
    ):
        read_wav2vec2(large)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StkError, match="no weights .*model.safetensors or pytorch_model.bin"):
        read_wav2vec2(tmp_path)
    with pytest.raises(StkError, match="no such file"):
        read_wav2vec2(tmp_path / "none.pth")
    (tmp_path / "pytorch_model.bin").write_bytes(b"nothing")
    with pytest.raises(StkError, match="cannot be read as weights"):
        read_wav2vec2(tmp_path)
    torch.save([1, 2], tmp_path / "pytorch_model.bin")
    with pytest.raises(StkError, match="holds no state dictionary"):
        read_wav2vec2(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StkError, match="add config.json"):
        read_wav2vec2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(StkError, match="model_type is 'hubert'"):
        read_wav2vec2(tmp_path)
    keys = {"model_type": "wav2vec2", **SIZES, "hidden_act": "relu"}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with pytest.raises(StkError, match="hidden_act is 'relu'; only 'gelu'"):
        read_wav2vec2(tmp_path)
    with pytest.raises(StkError, match="lacks encoder.layers.0"):
        read_wav2vec2(tmp_path, layout="torchaudio")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_commands_bring_a_model_in_and_out(layout: str, tmp_path: Path) -> None:
    other = huggingface(layout)
    other.save_pretrained(tmp_path / "theirs")
    out, back = str(tmp_path / "ours"), str(tmp_path / "back")
    assert stk_data(["import", str(tmp_path / "theirs"), "--out", out]) == 0
    loaded = load_model(out)
    assert loaded.frontend is not None and loaded.frontend.dim == 1
    assert loaded.config.features is not None
    assert loaded.config.features.normalize_waveform == (layout == "large")
    assert stk_data(["export", out, "--to", "huggingface", "--out", back]) == 0
    again, wanted = Wav2Vec2ForPreTraining.from_pretrained(back), other.state_dict()
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name])
    assert stk_data(["export", out, "--to", "ctranslate2", "--out", str(tmp_path / "no")]) == 1
