"""Configurations of text models of transformers, as keys of stk's models and objectives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stk.errors import StkError

ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}

_STACKS = ("layers", "ffn_dim", "attention_heads")

_FIXED: dict[str, dict[str, Any]] = {
    "bert": {"position_embedding_type": "absolute", "is_decoder": False},
    "xlm-roberta": {"position_embedding_type": "absolute", "is_decoder": False},
    "mbart": {
        "normalize_before": True,
        "normalize_embedding": True,
        "add_final_layer_norm": True,
        "static_position_embeddings": False,
    },
    "marian": {
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "static_position_embeddings": True,
    },
}
"""What the models here have no choice about; keys that a configuration lacks are as they should."""


def check_fixed(config: Mapping[str, Any], file: Path) -> None:
    """Raise StkError where a configuration asks for what cannot be had here."""
    for key, wanted in _FIXED[config["model_type"]].items():
        if config.get(key, wanted) != wanted:
            raise StkError(f"{key} is {config[key]!r}; only {wanted!r} can be read", file=file)


def _activation(config: Mapping[str, Any], key: str, file: Path) -> str:
    name = config.get(key, "gelu")
    if name not in ACTIVATIONS:
        raise StkError(f"{key} is {name!r}; only {', '.join(ACTIVATIONS)} can be read", file=file)
    return ACTIVATIONS[name]


def encoder_keys(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Keys of a ``language_model`` for BERT or XLM-R."""
    offset = 0 if config["model_type"] == "bert" else config.get("pad_token_id", 1) + 1
    return {
        "name": "language_model",
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "ffn": config["intermediate_size"],
        "heads": config["num_attention_heads"],
        "norm": "post",
        "activation": _activation(config, "hidden_act", file),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "max_positions": config["max_position_embeddings"] - offset,
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "head": "transform",
    }


def translation_keys(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Keys of a ``text_transformer`` for mBART or Marian, embeddings not yet among them.

    Raises:
        StkError: the two stacks differ in what they share here.
    """
    for name in _STACKS[1:]:
        if config[f"encoder_{name}"] != config[f"decoder_{name}"]:
            raise StkError(f"encoder_{name} and decoder_{name} differ", file=file)
    mbart = config["model_type"] == "mbart"
    return {
        "name": "text_transformer",
        "encoder_layers": config["encoder_layers"],
        "decoder_layers": config["decoder_layers"],
        "width": config["d_model"],
        "ffn": config["encoder_ffn_dim"],
        "heads": config["encoder_attention_heads"],
        "norm": "pre" if mbart else "post",
        "activation": _activation(config, "activation_function", file),
        "dropout": config.get("dropout", 0.1),
        "attention_dropout": config.get("attention_dropout", 0.0),
        "activation_dropout": config.get("activation_dropout", 0.0),
        "positions": "learned" if mbart else "sinusoidal_exact",
        "max_positions": config.get("max_position_embeddings", 1024),
        "embedding_norm": mbart,
        "embedding_scale": config.get("scale_embedding", False),
    }


def translation_objective(config: Mapping[str, Any], tags: int) -> dict[str, Any]:
    """The task that a translation model was made for, as an objective here.

    mBART reads ``X </s> [SRC]`` and begins with ``[TGT]``; mBART-50 reads ``[SRC] X </s>`` and
    begins with ``</s> [TGT]``; Marian with several targets reads ``>>TGT<< X </s>``.
    """
    task: dict[str, Any] = {"name": "cross_entropy", "source": "src_text"}
    if config["model_type"] == "marian":
        return task | ({"source_prefix": "tgt_lang"} if tags else {})
    if config.get("tokenizer_class") == "MBart50Tokenizer" or tags > 25:
        return task | {"source_prefix": "src_lang", "begin": "eos", "prefix": "tgt_lang"}
    return task | {"source_suffix": "src_lang", "begin": "tgt_lang"}
