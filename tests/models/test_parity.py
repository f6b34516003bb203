"""The same numbers as Hugging Face's Speech2Text, Marian and BART with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from stk.data.batch import Source
from stk.models.bart_mt import BartMt
from stk.models.encoder_decoder import EncoderDecoder
from stk.models.registry import build_model
from stk.modules.positions import sinusoids

WIDTH, VOCAB = 16, 40


def copy_attention(theirs: nn.Module, *, cross: bool) -> dict[str, Tensor]:
    """Fused weights from separate projections."""
    state = theirs.state_dict()
    first, rest = ("query", "memory") if cross else (None, "qkv")
    names = ("k_proj", "v_proj") if cross else ("q_proj", "k_proj", "v_proj")
    copied = {}
    for part in ("weight", "bias"):
        copied[f"{rest}.{part}"] = torch.cat([state[f"{name}.{part}"] for name in names])
        copied[f"output.{part}"] = state[f"out_proj.{part}"]
        if first is not None:
            copied[f"{first}.{part}"] = state[f"q_proj.{part}"]
    return copied


def copy_layer(ours: nn.Module, theirs: nn.Module) -> None:
    """Load an encoder or decoder layer of a Hugging Face model."""
    ours.self_attention.load_state_dict(copy_attention(theirs.self_attn, cross=False))
    pairs = [
        (ours.self_attention_norm, theirs.self_attn_layer_norm),
        (ours.feed_forward_norm, theirs.final_layer_norm),
        (ours.feed_forward.inner, theirs.fc1),
        (ours.feed_forward.outer, theirs.fc2),
    ]
    if hasattr(theirs, "encoder_attn"):
        ours.cross_attention.load_state_dict(copy_attention(theirs.encoder_attn, cross=True))
        pairs.append((ours.cross_attention_norm, theirs.encoder_attn_layer_norm))
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())


def copy_layers(ours: EncoderDecoder, theirs: nn.Module) -> None:
    encoder: Iterator[tuple[nn.Module, nn.Module]] = zip(
        ours.encoder.stack.layers, theirs.encoder.layers, strict=True
    )
    decoder = zip(ours.decoder.layers, theirs.decoder.layers, strict=True)
    for mine, other in (*encoder, *decoder):
        copy_layer(mine, other)
    with torch.no_grad():
        ours.decoder.embedding.weight.copy_(theirs.decoder.embed_tokens.weight)


def shaken(model: nn.Module) -> nn.Module:
    torch.manual_seed(6)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def sizes(encoder_layers: int, decoder_layers: int) -> dict[str, int]:
    return {
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "d_model": WIDTH,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "vocab_size": VOCAB,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "decoder_start_token_id": 2,
    }


def ours_like(**keys: object) -> EncoderDecoder:
    named = {"encoder_layers": 2, "decoder_layers": 3, "width": WIDTH, "ffn": 24, "heads": 2}
    model = build_model({**named, **keys}, {"src": VOCAB, "tgt": VOCAB}, 8)
    assert isinstance(model, EncoderDecoder)
    return model.eval()


def check(
    ours: EncoderDecoder, source: Source, theirs: Callable[[Tensor], Tensor], tokens: Tensor
) -> None:
    lengths = torch.tensor([7, 4])
    with torch.no_grad():
        logits = ours.decode(ours.encode(source), tokens, lengths).logits
        expected = theirs(tokens)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            logits[row, :length], expected[row, :length], rtol=1e-4, atol=2e-5
        )


@pytest.fixture
def tokens() -> Tensor:
    drawn = torch.randint(5, VOCAB, (2, 7), generator=torch.Generator().manual_seed(7))
    drawn[1, 4:] = 0
    return drawn


def test_speech_transformer_equals_speech2text(tokens: Tensor) -> None:
    from transformers import Speech2TextConfig, Speech2TextForConditionalGeneration

    config = Speech2TextConfig(
        **{**sizes(2, 3), "pad_token_id": 1},  # its encoder's positions are right for no other
        conv_channels=12,
        input_feat_per_channel=8,
        bos_token_id=2,
    )
    theirs = shaken(Speech2TextForConditionalGeneration(config))
    ours = ours_like(name="speech_transformer", conv_channels=12)
    copy_layers(ours, theirs.model)
    for mine, other in zip(
        ours.encoder.subsampler.convolutions, theirs.model.encoder.conv.conv_layers, strict=True
    ):
        mine.load_state_dict(other.state_dict())
    ours.encoder.stack.norm.load_state_dict(theirs.model.encoder.layer_norm.state_dict())
    ours.decoder.norm.load_state_dict(theirs.model.decoder.layer_norm.state_dict())
    # Theirs counts positions from 2: shift its tables to begin at 0.
    for embedded in (theirs.model.encoder.embed_positions, theirs.model.decoder.embed_positions):
        embedded.weights[2:] = sinusoids(len(embedded.weights) - 2, WIDTH)

    # Theirs leaves padded frames in its convolutions, so the batch has none; zeros at the second
    # clip's end would otherwise differ from ours by design.
    source = Source(torch.randn(2, 21, 8), torch.tensor([21, 21]))

    def logits(ids: Tensor) -> Tensor:
        mask = torch.ones(2, 21, dtype=torch.long)
        output = theirs(input_features=source.data, attention_mask=mask, decoder_input_ids=ids)
        return output.logits

    check(ours, source, logits, tokens)


def test_text_transformer_equals_marian(tokens: Tensor) -> None:
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        **sizes(2, 3), scale_embedding=True, activation_function="relu", forced_eos_token_id=3
    )
    theirs = shaken(MarianMTModel(config))
    ours = ours_like(name="text_transformer", norm="post", tie="all")
    copy_layers(ours, theirs.model)
    # Marian's wavelengths are spaced a little differently.
    for part, other in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        part.positions.table = other.embed_positions.weight.detach().clone()
    source = Source(tokens.flip(1).roll(4, 0), torch.tensor([7, 7]))
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 3:] = 0
    data = source.data.clone()
    data[1, 3:] = 0
    source = Source(data, torch.tensor([7, 3]))

    def logits(ids: Tensor) -> Tensor:
        return theirs(input_ids=data, attention_mask=mask, decoder_input_ids=ids).logits

    check(ours, source, logits, tokens)


def test_bart_mt_equals_bart_that_is_given_vectors(tokens: Tensor) -> None:
    """Theirs takes vectors in place of its token embeddings: those of our source encoder."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        **sizes(2, 3), max_position_embeddings=20, activation_function="gelu", forced_eos_token_id=3
    )
    theirs = shaken(BartForConditionalGeneration(config))
    keys = {"norm": "post", "activation": "gelu", "positions": "learned", "max_positions": 20}
    ours = ours_like(
        name="bart_mt", source_layers=1, embedding_norm=True, embedding_scale=False, **keys
    )
    assert isinstance(ours, BartMt)
    copy_layers(ours, theirs.model)
    for mine, other in ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder)):
        mine.embedding_norm.load_state_dict(other.layernorm_embedding.state_dict())
        # Theirs keeps two unused rows before the first position.
        mine.positions.load_state_dict({"weight": other.embed_positions.weight[2:]})
    data, mask = torch.randint(5, VOCAB, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    data[1, 3:] = mask[1, 3:] = 0
    source = Source(data, mask.sum(1))

    def logits(ids: Tensor) -> Tensor:
        vectors, _ = ours.source(source)
        output = theirs(inputs_embeds=vectors, attention_mask=mask, decoder_input_ids=ids)
        return output.logits

    check(ours, source, logits, tokens)
