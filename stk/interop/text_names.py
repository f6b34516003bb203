"""Names of text models' weights: stk's beside those of transformers."""

from __future__ import annotations

from stk.interop.names import Names, fused, pair

_BERT_HEAD = "cls.predictions"


def encoder_names(kind: str, layers: int) -> list[Names]:
    """Names of BERT (``bert``) and XLM-R (``xlm-roberta``) but for embeddings and the head."""
    names = pair("encoder.embedding_norm", "embeddings.LayerNorm")
    for i in range(layers):
        mine, theirs = f"encoder.stack.layers.{i}", f"encoder.layer.{i}"
        inner = tuple(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        names += [
            *fused(f"{mine}.self_attention.qkv", inner),
            *pair(f"{mine}.self_attention.output", f"{theirs}.attention.output.dense"),
            *pair(f"{mine}.self_attention_norm", f"{theirs}.attention.output.LayerNorm"),
            *pair(f"{mine}.feed_forward.inner", f"{theirs}.intermediate.dense"),
            *pair(f"{mine}.feed_forward.outer", f"{theirs}.output.dense"),
            *pair(f"{mine}.feed_forward_norm", f"{theirs}.output.LayerNorm"),
        ]
    return names


def head_names(kind: str) -> list[Names]:
    """Names of the head that names masked tokens; its bias, which is per token, is ``bias``."""
    dense, norm = {
        "bert": (f"{_BERT_HEAD}.transform.dense", f"{_BERT_HEAD}.transform.LayerNorm"),
        "xlm-roberta": ("lm_head.dense", "lm_head.layer_norm"),
    }[kind]
    return [*pair("head.dense", dense), *pair("head.norm", norm)]


HEAD_BIAS = {"bert": f"{_BERT_HEAD}.bias", "xlm-roberta": "lm_head.bias"}
"""Where the head's bias per token is."""

ALIASES: dict[str, dict[str, str]] = {
    "bert": {
        f"{_BERT_HEAD}.decoder.weight": "embeddings.word_embeddings.weight",
        f"{_BERT_HEAD}.decoder.bias": f"{_BERT_HEAD}.bias",
    },
    "xlm-roberta": {
        "lm_head.decoder.weight": "embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
}
"""Names under which tied tensors may be stored a second time."""

LEFT = ("pooler.", "cls.seq_relationship.", "embeddings.position_ids")
"""Beginnings of what encoders of one text have no use for: it is left behind and reported."""


def translation_names(layers: tuple[int, int], *, mbart: bool) -> list[Names]:
    """Names of mBART and Marian but for embeddings, positions and the bias of logits."""
    names: list[Names] = []
    if mbart:
        names += [
            *pair("encoder.embedding_norm", "encoder.layernorm_embedding"),
            *pair("encoder.stack.norm", "encoder.layer_norm"),
            *pair("decoder.embedding_norm", "decoder.layernorm_embedding"),
            *pair("decoder.norm", "decoder.layer_norm"),
        ]
    for i in range(layers[0]):
        names += _layer(f"encoder.stack.layers.{i}", f"encoder.layers.{i}")
    for i in range(layers[1]):
        mine, theirs = f"decoder.layers.{i}", f"decoder.layers.{i}"
        cross = f"{theirs}.encoder_attn"
        names += [
            *_layer(mine, theirs),
            *pair(f"{mine}.cross_attention.query", f"{cross}.q_proj"),
            *fused(f"{mine}.cross_attention.memory", (f"{cross}.k_proj", f"{cross}.v_proj")),
            *pair(f"{mine}.cross_attention.output", f"{cross}.out_proj"),
            *pair(f"{mine}.cross_attention_norm", f"{theirs}.encoder_attn_layer_norm"),
        ]
    return names


def _layer(mine: str, theirs: str) -> list[Names]:
    inner = tuple(f"{theirs}.self_attn.{part}_proj" for part in "qkv")
    return [
        *fused(f"{mine}.self_attention.qkv", inner),
        *pair(f"{mine}.self_attention.output", f"{theirs}.self_attn.out_proj"),
        *pair(f"{mine}.self_attention_norm", f"{theirs}.self_attn_layer_norm"),
        *pair(f"{mine}.feed_forward.inner", f"{theirs}.fc1"),
        *pair(f"{mine}.feed_forward.outer", f"{theirs}.fc2"),
        *pair(f"{mine}.feed_forward_norm", f"{theirs}.final_layer_norm"),
    ]
