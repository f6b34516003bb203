"""Presets, strict construction, and what each option builds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from stk.config.strict import to_plain
from stk.errors import StkError
from stk.models.encoder_decoder import EncoderDecoder
from stk.models.registry import MODELS, build_model
from stk.models.speech_transformer import SpeechTransformer
from stk.models.text_transformer import TextTransformer

SIZES = {"src": 100, "tgt": 120, "ctc": 90}


READS_SAMPLES = {"wav2vec2", "wav2vec2_transformer", "xstnet", "chimera", "lna"}


def on_meta(**named: object) -> EncoderDecoder:
    """A model without memory behind it."""
    with torch.device("meta"):
        model = build_model(named, SIZES, 80)
    assert isinstance(model, EncoderDecoder)
    return model


def layer_parameters(width: int, ffn: int) -> int:
    return 4 * (width * width + width) + 2 * width * ffn + width + ffn + 4 * width


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder", "width", "ffn", "heads", "dropout"),
    [
        ("xs", 6, 3, 256, 1024, 4, 0.3),
        ("s", 12, 6, 256, 2048, 4, 0.1),
        ("m", 12, 6, 512, 2048, 8, 0.15),
        ("l", 12, 6, 1024, 4096, 16, 0.2),
    ],
)
def test_speech_presets(
    preset: str, encoder: int, decoder: int, width: int, ffn: int, heads: int, dropout: float
) -> None:
    model = on_meta(name="speech_transformer", preset=preset)
    shape = model.config.shape
    assert (shape.width, shape.ffn, shape.heads, shape.dropout) == (width, ffn, heads, dropout)
    assert shape.attention_dropout == shape.activation_dropout == dropout
    assert len(model.encoder.stack.layers) == encoder and len(model.decoder.layers) == decoder
    assert model.encoder.stack.norm is not None and model.decoder.norm is not None
    count = sum(p.numel() for p in model.encoder.stack.layers.parameters())
    assert count == encoder * layer_parameters(width, ffn)


@pytest.mark.parametrize(
    ("preset", "encoder", "width", "ffn", "heads", "norm", "dropout"),
    [
        ("small", 6, 512, 1024, 4, "post", 0.3),
        ("base", 6, 512, 2048, 8, "post", 0.1),
        ("big", 6, 1024, 4096, 16, "post", 0.3),
        ("deep12", 12, 768, 3072, 12, "post", 0.1),
        ("deep20", 20, 768, 3072, 12, "pre", 0.1),
    ],
)
def test_text_presets(
    preset: str, encoder: int, width: int, ffn: int, heads: int, norm: str, dropout: float
) -> None:
    model = on_meta(name="text_transformer", preset=preset)
    shape = model.config.shape
    assert (shape.width, shape.ffn, shape.heads, shape.norm) == (width, ffn, heads, norm)
    assert shape.dropout == model.encoder.dropout == dropout
    assert shape.attention_dropout == shape.activation_dropout == 0.0
    assert len(model.encoder.stack.layers) == encoder and len(model.decoder.layers) == 6
    # A pre-norm stack leaves its residual stream bare: both stacks end in a norm, or neither.
    finals = (model.encoder.stack.norm, model.decoder.norm)
    assert all(final is not None for final in finals) == (norm == "pre")
    assert all(final is None for final in finals) == (norm == "post")


@pytest.mark.parametrize(
    ("preset", "layers", "width", "ffn", "heads"),
    [("bart_base", 6, 768, 3072, 12), ("bart_large", 12, 1024, 4096, 16)],
)
@pytest.mark.parametrize("name", ["text_transformer", "bart_mt"])
def test_bart_presets(
    name: str, preset: str, layers: int, width: int, ffn: int, heads: int
) -> None:
    model = on_meta(name=name, preset=preset)
    shape = model.config.shape
    assert (shape.width, shape.ffn, shape.heads) == (width, ffn, heads)
    assert (shape.norm, shape.activation) == ("post", "gelu")
    assert len(model.encoder.stack.layers) == len(model.decoder.layers) == layers
    for part in (model.encoder, model.decoder):
        assert part.positions.weight.shape == (1024, width)
        assert part.embedding_norm is not None
    assert model.decoder.embedding.scale == 1.0
    if name == "bart_mt":
        assert len(model.source.stack.layers) == 6


def test_keys_override_the_preset() -> None:
    model = on_meta(name="speech_transformer", preset="xs", encoder_layers=2, norm="post")
    assert len(model.encoder.stack.layers) == 2 and model.config.norm == "post"


@pytest.mark.parametrize("name", MODELS)
def test_a_resolved_configuration_builds_the_same_model(name: str) -> None:
    _, model_class = MODELS[name]
    features = 1 if name in READS_SAMPLES else 80
    stated = {"classes": 3} if name == "text_classifier" else {}  # no preset can know it
    for preset in model_class.PRESETS:
        with torch.device("meta"):
            first = build_model({"name": name, "preset": preset, **stated}, SIZES, features)
            second = build_model({"name": name, **to_plain(first.config)}, SIZES, features)
        assert first.config == second.config
        assert first.state_dict().keys() == second.state_dict().keys()


def test_both_models_share_decoder_and_encoder_names() -> None:
    """Components move between systems by prefix, so the names below it must agree."""
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "width": 8, "ffn": 8, "heads": 2}
    text = on_meta(name="text_transformer", norm="pre", **sizes).state_dict()
    speech = on_meta(name="speech_transformer", **sizes).state_dict()
    for prefix in ("decoder.", "encoder.stack."):
        ours = {key: value.shape for key, value in text.items() if key.startswith(prefix)}
        theirs = {key: value.shape for key, value in speech.items() if key.startswith(prefix)}
        assert ours and ours == theirs


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"name": "speech_transfomer"}, "nearest: speech_transformer"),
        ({"name": None}, "unknown model None"),
        ({"name": "text_transformer", "preset": "deep21"}, "nearest: deep20"),
        ({"name": "text_transformer", "preset": "base", "hedas": 4}, "nearest known key: heads"),
        ({"name": "text_transformer", "encoder_layers": 1}, "missing key 'model.decoder_layers'"),
        ({"name": "text_transformer", "preset": "base", "heads": 7}, "multiple of 7 heads"),
        ({"name": "text_transformer", "preset": "base", "dropout": 1.0}, "dropout must lie in"),
        ({"name": "text_transformer", "preset": "base", "ctc_layer": 7}, "between 1 and 6"),
        ({"name": "text_transformer", "preset": "base", "target_view": "de"}, "view 'de'"),
        ({"name": "text_transformer", "preset": "base", "tie": "all"}, "one vocabulary"),
        ({"name": "text_transformer", "preset": "base", "init_std": 0.0}, "init_std must be above"),
        ({"name": "speech_transformer", "preset": "xs", "conv_kernels": [4]}, "must be odd"),
        ({"name": "speech_transformer", "preset": "xs", "conv_channels": 7}, "must be even"),
    ],
)
def test_wrong_configurations_are_one_line(named: dict[str, object], message: str) -> None:
    with pytest.raises(StkError) as caught:
        on_meta(**named)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_speech_without_features_is_refused() -> None:
    with pytest.raises(StkError, match="add the section features"):
        build_model({"name": "speech_transformer", "preset": "xs"}, SIZES, None)


def test_tying(tiny: Callable[..., EncoderDecoder]) -> None:
    free = tiny("text_pre")
    assert isinstance(free, TextTransformer) and free.decoder.output is not None
    tied = tiny("text_post")
    assert isinstance(tied, TextTransformer) and tied.decoder.output is None
    assert tied.encoder.embedding is not tied.decoder.embedding
    everything = tiny("text_learned")
    assert isinstance(everything, TextTransformer)
    assert everything.encoder.embedding is everything.decoder.embedding


def test_weights_from_one_normal_distribution() -> None:
    torch.manual_seed(1)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "width": 64, "ffn": 128, "heads": 2}
    keys = {"positions": "learned", "tie": "none", "languages": 3, "embedding_norm": True}
    named = {"name": "text_transformer", **sizes, **keys, "init_std": 0.02}
    model = build_model(named, SIZES)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            drawn = parameter[1:] if name.endswith("embedding.weight") else parameter
            assert 0.016 < float(drawn.detach().std()) < 0.024, name
            assert drawn is parameter or not parameter[0].any()
        else:
            ends = ("norm.weight",)
            expected = torch.ones_like(parameter) if name.endswith(ends) else 0 * parameter
            assert torch.equal(parameter, expected), name


def test_ctc_head_normalises_inner_layers_alone(tiny: Callable[..., EncoderDecoder]) -> None:
    inner, last = tiny("speech_conv1d", ctc_layer=1), tiny("speech_conv1d", ctc_layer=3)
    assert inner.ctc is not None and inner.ctc.norm is not None
    assert last.ctc is not None and last.ctc.norm is None
    assert tiny("speech_conv2d").ctc is None and tiny("speech_conv2d").ctc_lengths is None


def test_ctc_on_a_layer_trains_only_what_lies_below(
    tiny: Callable[..., EncoderDecoder], sources: Callable[..., object]
) -> None:
    model = tiny("speech_conv1d", ctc_layer=2)
    encoded = model.encode(sources("speech_conv1d", [5, 3]))  # type: ignore[arg-type]
    assert encoded.ctc_logits is not None
    encoded.ctc_logits.sum().backward()
    assert isinstance(model, SpeechTransformer)
    reached = [
        any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())
        for layer in model.encoder.stack.layers
    ]
    assert reached == [True, True, False]


def test_ctc_lengths_are_those_of_the_logits(
    tiny: Callable[..., EncoderDecoder], sources: Callable[..., object]
) -> None:
    for kind in ("speech_conv1d", "text_ctc"):
        model, source = tiny(kind), sources(kind, [5, 3, 1])
        encoded = model.encode(source)  # type: ignore[arg-type]
        assert model.ctc_lengths is not None and encoded.ctc_lengths is not None
        counted = [model.ctc_lengths(n) for n in source.lengths.tolist()]  # type: ignore[attr-defined]
        assert encoded.ctc_lengths.tolist() == counted


def test_the_wrong_kind_of_source_is_refused(
    tiny: Callable[..., EncoderDecoder], sources: Callable[..., object]
) -> None:
    with pytest.raises(ValueError, match="not sound"):
        tiny("text_post").encode(sources("speech_post", [3]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frames"):
        tiny("speech_post").encode(sources("text_post", [3]))  # type: ignore[arg-type]
