"""Tiny text models of transformers, randomly initialised and saved with real vocabularies."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch

SENTENCES = (
    "the house is old", "a small house stands on the hill", "three apes eat old bread",
    "das haus ist alt", "ein kleines haus steht auf dem hügel", "drei affen essen altes brot",
    "we see two apes and a hill", "wir sehen zwei affen und einen berg",
)  # fmt: skip
"""What the vocabularies are learnt on."""

SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 64,
}
LANGUAGES = ("de_DE", "en_XX", "fr_XX")


def sentencepiece_model(size: int = 90, seed: int = 0) -> bytes:
    """A real SentencePiece model with that library's own first ids: unk, begin, end."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES[seed:]), model_writer=out, vocab_size=size,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def pieces_of(model: bytes) -> list[str]:
    """All pieces in the order of their ids."""
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return [processor.id_to_piece(i) for i in range(len(processor))]


def spread(model: Any, seed: int = 1) -> Any:
    """Weights so far from each other that outputs differ from token to token."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "norm" in name.lower():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
            elif "embed_positions" not in name or tensor.requires_grad:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model.eval()


def save_bert(directory: Path) -> Any:
    """A masked language model with word pieces; returns it."""
    from transformers import BertConfig, BertForMaskedLM

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    letters = [chr(c) for c in range(97, 123)]
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "!", "中"]
    pieces += [
        *words,
        *(c for c in letters if c not in words),
        *(f"##{c}" for c in letters),
        "##es",
    ]
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40,
    )  # fmt: skip
    model = spread(BertForMaskedLM(config))
    model.save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return model


def save_xlmr(directory: Path) -> Any:
    """XLM-R over a SentencePiece model; returns it."""
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    content = sentencepiece_model()
    config = XLMRobertaConfig(
        vocab_size=len(pieces_of(content)) + 2, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=48, max_position_embeddings=42,
        type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = spread(XLMRobertaForMaskedLM(config))
    model.save_pretrained(directory)
    (directory / "sentencepiece.bpe.model").write_bytes(content)
    return model


def save_mbart(directory: Path, languages: tuple[str, ...] = LANGUAGES, **keys: Any) -> Any:
    """mBART over a SentencePiece model; returns it."""
    from transformers import MBartConfig, MBartForConditionalGeneration

    content = sentencepiece_model()
    config = MBartConfig(
        vocab_size=len(pieces_of(content)) + 2 + len(languages), scale_embedding=True,
        **{**SIZES, **keys},
    )  # fmt: skip
    model = spread(MBartForConditionalGeneration(config))
    model.save_pretrained(directory)
    (directory / "sentencepiece.bpe.model").write_bytes(content)
    return model


def save_marian(directory: Path, codes: tuple[str, ...] = (), **keys: Any) -> Any:
    """Marian, whose two SentencePiece models share one numbering; returns it."""
    from transformers import MarianConfig, MarianMTModel

    source, target = sentencepiece_model(80), sentencepiece_model(90, seed=3)
    both = sorted({*pieces_of(source)[3:], *pieces_of(target)[3:]}, key=lambda p: (p[::-1], p))
    tokens = ["</s>", "<unk>", *both, *(f">>{code}<<" for code in codes), "<pad>"]
    pad = len(tokens) - 1
    config = MarianConfig(
        vocab_size=len(tokens), pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0,
        forced_eos_token_id=0, activation_function="swish", scale_embedding=True,
        **{**SIZES, **keys},
    )  # fmt: skip
    model = spread(MarianMTModel(config))
    with torch.no_grad():
        model.final_logits_bias.copy_(torch.linspace(-1, 1, len(tokens)))
    model.save_pretrained(directory)
    numbers = {token: i for i, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (directory / "source.spm").write_bytes(source)
    (directory / "target.spm").write_bytes(target)
    return model
