"""Text translation models, written for CTranslate2 (OpenNMT), which decodes fast on CPUs and GPUs.

The directory has what ``ctranslate2.Translator`` loads, and the vocabularies under ``vocab/``.
CTranslate2 reads and writes pieces: source pieces as the task makes them, end symbol included.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.models.text_transformer import TextTransformer
from stk.modules.attention import CrossAttention, SelfAttention
from stk.modules.positions import LearnedPositions, SinusoidalPositions
from stk.modules.text_embedding import TextEmbedding
from stk.modules.transformer import DecoderLayer, EncoderLayer
from stk.objectives.cross_entropy import CrossEntropyConfig
from stk.objectives.registry import build_objective
from stk.training.checkpoint import Loaded

POSITIONS = 2048
"""Sinusoidal positions written: longer inputs are not read."""

CLOSED = -1e4
"""Bias of what stk's search never writes: padding, begin, mask and tags."""

QUANTIZATIONS = (
    "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16",
    "float32",
)  # fmt: skip


def write_ctranslate2(
    loaded: Loaded, directory: str | Path, *, quantization: str | None = None
) -> None:
    """Write a model for CTranslate2.

    Args:
        loaded: a ``text_transformer`` with its vocabularies and its task.
        directory: must not exist; written whole or not at all.
        quantization: one of :data:`QUANTIZATIONS`; None: fp32.

    Raises:
        StkError: CTranslate2 is not installed, the model or its task has no counterpart there, the
            directory exists.
    """
    try:
        import ctranslate2
    except ImportError:
        raise StkError(
            "ctranslate2 is not installed", mend="pip install stk[ctranslate2]"
        ) from None
    directory = Path(directory)
    if directory.exists():
        raise StkError("already exists", file=directory, mend="remove it or choose another")
    if quantization is not None and quantization not in QUANTIZATIONS:
        known = ", ".join(QUANTIZATIONS)
        raise StkError(f"no quantization {quantization!r}", mend=f"known: {known}")
    model, objective = loaded.model, build_objective(loaded.config.streams[0].objective)
    task = getattr(objective, "config", None)
    _check(model, task, loaded.path)
    assert isinstance(model, TextTransformer) and isinstance(task, CrossEntropyConfig)
    source, target = loaded.vocabs[task.source_view], loaded.vocabs[task.target_view]
    spec = _spec(ctranslate2, model, target)
    spec.register_source_vocabulary([source.piece(i) for i in range(len(source))])
    spec.register_target_vocabulary([target.piece(i) for i in range(len(target))])
    names = {"bos": target.piece(target.bos), "eos": target.piece(target.eos)}
    spec.config.bos_token, spec.config.eos_token = names["bos"], names["eos"]
    spec.config.unk_token = target.piece(target.unk)
    spec.config.decoder_start_token = names.get(task.begin)  # a tag comes with the target prefix
    spec.config.layer_norm_epsilon = model.config.norm_eps
    spec.validate()
    spec.optimize(quantization=quantization)
    part = directory.parent / f".{directory.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    spec.save(str(part))
    for view, vocab in ((task.source_view, source), (task.target_view, target)):
        vocab.save(part / "vocab" / view)
    os.rename(part, directory)


def _check(model: nn.Module, task: Any, path: Path) -> None:
    if not isinstance(model, TextTransformer):
        raise StkError("CTranslate2 gets models text_transformer alone", file=path)
    if not isinstance(task, CrossEntropyConfig) or task.end != "eos":
        raise StkError("CTranslate2 gets tasks cross_entropy whose outputs end with eos", file=path)
    if model.config.languages:
        raise StkError("CTranslate2 has no language embeddings", file=path)


def _spec(ctranslate2: Any, model: TextTransformer, target: Vocab) -> Any:
    """The model as CTranslate2's specification."""
    config, kinds = model.config, ctranslate2.specs.Activation
    activation = {"relu": kinds.RELU, "gelu": kinds.GELU, "silu": kinds.SWISH}[config.activation]
    spec = ctranslate2.specs.TransformerSpec.from_config(
        (config.encoder_layers, config.decoder_layers),
        config.heads,
        pre_norm=config.norm == "pre",
        activation=activation,
        layernorm_embedding=config.embedding_norm,
    )
    encoder, decoder = model.encoder, model.decoder
    _embedding(spec.encoder.embeddings[0], spec.encoder, encoder)
    _embedding(spec.decoder.embeddings, spec.decoder, decoder)
    if config.norm == "pre":
        assert encoder.stack.norm is not None and decoder.norm is not None
        _norm(spec.encoder.layer_norm, encoder.stack.norm)
        _norm(spec.decoder.layer_norm, decoder.norm)
    for theirs, layer in zip(spec.encoder.layer, encoder.stack.layers, strict=True):
        assert isinstance(layer, EncoderLayer)
        _layer(theirs, layer)
    for theirs, layer in zip(spec.decoder.layer, decoder.layers, strict=True):
        assert isinstance(layer, DecoderLayer) and layer.cross_attention is not None
        _layer(theirs, layer)
        _cross(theirs.attention, layer.cross_attention)
        _norm(theirs.attention.layer_norm, layer.cross_attention_norm)
    output = decoder.output
    bias = np.zeros(len(target), dtype=np.float32)
    if output is not None:
        bias += _array(output.bias)
    elif decoder.output_bias is not None:
        bias += _array(decoder.output_bias)
    bias[[target.pad, target.bos, target.mask, *map(target.tag, target.tags)]] = CLOSED
    matrix = decoder.embedding.weight if output is None else output.weight
    spec.decoder.projection.weight, spec.decoder.projection.bias = _array(matrix), bias
    return spec


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _embedding(table: Any, stack: Any, module: TextEmbedding) -> None:
    table.weight = _array(module.embedding.weight)
    stack.scale_embeddings = module.embedding.scale
    positions = module.positions
    if isinstance(positions, LearnedPositions):
        stack.position_encodings.encodings = _array(positions.weight)
    else:
        assert isinstance(positions, SinusoidalPositions)
        stack.position_encodings.encodings = _array(positions(POSITIONS))
    if module.embedding_norm is not None:
        _norm(stack.layernorm_embedding, module.embedding_norm)


def _norm(theirs: Any, module: nn.LayerNorm) -> None:
    theirs.gamma, theirs.beta = _array(module.weight), _array(module.bias)


def _linear(theirs: Any, module: nn.Linear) -> None:
    theirs.weight, theirs.bias = _array(module.weight), _array(module.bias)


def _layer(theirs: Any, layer: EncoderLayer | DecoderLayer) -> None:
    """Self-attention and feed-forward block."""
    attention: SelfAttention = layer.self_attention
    _linear(theirs.self_attention.linear[0], attention.qkv)
    _linear(theirs.self_attention.linear[1], attention.output)
    _norm(theirs.self_attention.layer_norm, layer.self_attention_norm)
    _linear(theirs.ffn.linear_0, layer.feed_forward.inner)
    _linear(theirs.ffn.linear_1, layer.feed_forward.outer)
    _norm(theirs.ffn.layer_norm, layer.feed_forward_norm)


def _cross(theirs: Any, attention: CrossAttention) -> None:
    _linear(theirs.linear[0], attention.query)
    _linear(theirs.linear[1], attention.memory)
    _linear(theirs.linear[2], attention.output)
