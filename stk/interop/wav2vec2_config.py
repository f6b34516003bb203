"""Configurations of wav2vec 2.0 in other libraries, as keys of stk's and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stk.errors import StkError
from stk.models.wav2vec2 import Wav2Vec2Config

_HF_KEYS = {
    "num_hidden_layers": "layers",
    "hidden_size": "width",
    "intermediate_size": "ffn",
    "num_attention_heads": "heads",
    "feat_extract_norm": "extractor_norm",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "feat_proj_dropout": "input_dropout",
    "layerdrop": "layer_drop",
    "num_conv_pos_embeddings": "position_kernel",
    "num_conv_pos_embedding_groups": "position_groups",
    "num_codevector_groups": "groups",
    "num_codevectors_per_group": "codes",
    "proj_codevector_dim": "target_dim",
    "feat_quantizer_dropout": "feature_dropout",
}
"""Keys of a transformers configuration -> those of :class:`Wav2Vec2Config`."""

_HF_FIXED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
}
"""What the model here has no choice about."""


def read_huggingface(path: Path, file: Path) -> dict[str, Any]:
    """Keys of a model's configuration from ``config.json``.

    Args:
        path: the directory, or the weights beside it.
        file: the weights, for messages.

    Raises:
        StkError: there is none, or it is of a model that cannot be had here.
    """
    config_file = (path if path.is_dir() else path.parent) / "config.json"
    if not config_file.exists():
        raise StkError("no configuration beside the weights", file=file, mend="add config.json")
    theirs = json.loads(config_file.read_text(encoding="utf-8"))
    if theirs.get("model_type") != "wav2vec2":
        raise StkError(
            f"model_type is {theirs.get('model_type')!r}, not wav2vec2", file=config_file
        )
    missing = [key for key in ("num_hidden_layers", "hidden_size") if key not in theirs]
    if missing:
        raise StkError(f"lacks {', '.join(missing)}", file=config_file)
    norm = theirs.get("feat_extract_norm", "group")
    fixed = {**_HF_FIXED, "conv_bias": norm == "layer"}
    fixed["codevector_dim"] = theirs.get("proj_codevector_dim", 256)
    defaults = {"conv_bias": False, "codevector_dim": 256}
    for key, wanted in fixed.items():
        value = theirs.get(key, defaults.get(key, wanted))
        if value != wanted:
            raise StkError(f"{key} is {value!r}; only {wanted!r} can be read", file=config_file)
    plain = {mine: theirs[key] for key, mine in _HF_KEYS.items() if key in theirs}
    plain["norm"] = "pre" if theirs.get("do_stable_layer_norm", False) else "post"
    plain["extractor_norm"] = norm
    if "conv_dim" in theirs:
        layers = zip(theirs["conv_dim"], theirs["conv_kernel"], theirs["conv_stride"], strict=True)
        plain["convolutions"] = [list(layer) for layer in layers]
    return plain


def huggingface_config(config: Wav2Vec2Config) -> dict[str, Any]:
    """What ``config.json`` holds."""
    channels, kernels, strides = zip(*config.convolutions, strict=True)
    return {
        "architectures": ["Wav2Vec2ForPreTraining"],
        "model_type": "wav2vec2",
        **{key: getattr(config, mine) for key, mine in _HF_KEYS.items()},
        **_HF_FIXED,
        "codevector_dim": config.target_dim,
        "conv_bias": config.normalized,
        "conv_dim": channels,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "num_feat_extract_layers": len(channels),
        "do_stable_layer_norm": config.norm == "pre",
    }


def sizes_of_torchaudio(theirs: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Sizes of a torchaudio model; strides are those of wav2vec 2.0, which shapes do not tell.

    Raises:
        StkError: a weight that tells them is missing.
    """
    plain: dict[str, Any] = {}
    try:
        convolutions: list[list[int]] = []
        while (key := f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight") in theirs:
            channels, _, kernel = theirs[key].shape
            convolutions.append([channels, kernel, 2 if convolutions else 5])
        layers = 0
        while f"encoder.layers.{layers}.final_layer_norm.weight" in theirs:
            layers += 1
        first = theirs["encoder.layers.0.feed_forward.intermediate_dense.weight"]
        positions = theirs["encoder.pos_conv_embed.conv.weight_v"]
    except KeyError as error:
        raise StkError(f"lacks {error.args[0]}: no wav2vec 2.0 of torchaudio", file=file) from None
    layered = "feature_extractor.conv_layers.1.layer_norm.weight" in theirs
    plain["convolutions"], plain["layers"] = convolutions, layers
    plain["ffn"], plain["width"] = first.shape
    plain["heads"] = max(1, first.shape[1] // 64)
    plain["position_kernel"] = positions.shape[2]
    plain["position_groups"] = positions.shape[0] // positions.shape[1]
    # Bundles with layer norm in the extractor are pre-norm, those with group norm post-norm.
    plain["extractor_norm"], plain["norm"] = ("layer", "pre") if layered else ("group", "post")
    return plain
