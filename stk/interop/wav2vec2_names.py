"""Names of wav2vec 2.0 weights: stk's beside those of transformers and torchaudio."""

from __future__ import annotations

from stk.interop.names import Names, fused, pair
from stk.modules.wave_encoder import WaveShape

PRETRAINING = ("quantizer.", "project_q.", "project_hid.")
"""What stands outside the encoder in transformers' model for pre-training."""

_WEIGHT_NORM = (
    (r"conv\.parametrizations\.weight\.original0$", "conv.weight_g"),
    (r"conv\.parametrizations\.weight\.original1$", "conv.weight_v"),
)

CANONICAL: dict[str, tuple[tuple[str, str], ...]] = {
    "huggingface": ((r"^wav2vec2\.", ""), *_WEIGHT_NORM),
    "torchaudio": (
        (r"^encoder\.feature_projection\.", "feature_projection."),
        (r"^encoder\.transformer\.", "encoder."),
        *_WEIGHT_NORM,
    ),
}
"""Replacements that bring both layouts, and old and new weight normalisation, to one form."""


def encoder_names(shape: WaveShape) -> list[Names]:
    """All names below ``encoder.``."""
    names: list[Names] = [
        ("encoder.mask_vector", ("masked_spec_embed",)),
        *pair("encoder.feature_norm", "feature_projection.layer_norm"),
        *pair("encoder.projection", "feature_projection.projection"),
    ]
    for i in range(len(shape.convolutions)):
        theirs = f"feature_extractor.conv_layers.{i}"
        both = pair(f"encoder.extractor.convolutions.{i}", f"{theirs}.conv")
        names += both if shape.extractor_norm == "layer" else both[:1]
        if shape.extractor_norm == "layer" or i == 0:
            names += pair(f"encoder.extractor.norms.{i}", f"{theirs}.layer_norm")
    for part in ("weight_g", "weight_v", "bias"):
        names.append((f"encoder.positions.{part}", (f"encoder.pos_conv_embed.conv.{part}",)))
    outer = "encoder.stack.norm" if shape.norm == "pre" else "encoder.input_norm"
    names += pair(outer, "encoder.layer_norm")
    for i in range(shape.layers):
        names += _layer(f"encoder.stack.layers.{i}", f"encoder.layers.{i}")
    return names


def quantizer_names() -> list[Names]:
    """All names outside ``encoder.``."""
    return [
        ("quantizer.codebook", ("quantizer.codevectors",)),
        *pair("quantizer.logits", "quantizer.weight_proj"),
        *pair("target", "project_q"),
        *pair("context", "project_hid"),
    ]


def _layer(mine: str, theirs: str) -> list[Names]:
    attention = f"{theirs}.attention"
    projections = tuple(f"{attention}.{part}_proj" for part in "qkv")
    return [
        *fused(f"{mine}.self_attention.qkv", projections),
        *pair(f"{mine}.self_attention.output", f"{attention}.out_proj"),
        *pair(f"{mine}.self_attention_norm", f"{theirs}.layer_norm"),
        *pair(f"{mine}.feed_forward.inner", f"{theirs}.feed_forward.intermediate_dense"),
        *pair(f"{mine}.feed_forward.outer", f"{theirs}.feed_forward.output_dense"),
        *pair(f"{mine}.feed_forward_norm", f"{theirs}.final_layer_norm"),
    ]
