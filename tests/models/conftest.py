"""Tiny models of every kind, and what they read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder
from stk.models.registry import build_model

SMALL: dict[str, Any] = {
    "encoder_layers": 3,
    "decoder_layers": 2,
    "width": 16,
    "ffn": 24,
    "heads": 2,
}
KINDS: dict[str, dict[str, Any]] = {
    "text_post": {"name": "text_transformer", "norm": "post"},
    "text_pre": {"name": "text_transformer", "norm": "pre", "activation": "gelu", "tie": "none"},
    "text_learned": {"name": "text_transformer", "positions": "learned", "tie": "all"},
    "text_embedding_norm": {
        "name": "text_transformer",
        "embedding_norm": True,
        "embedding_scale": False,
        "output_bias": True,
        "positions": "learned",
        "tie": "all",
    },
    "text_bart_mt": {
        "name": "bart_mt",
        "source_layers": 2,
        "embedding_norm": True,
        "positions": "learned",
        "norm": "post",
    },
    "text_ctc": {"name": "text_transformer", "ctc_layer": 3},
    "speech_conv1d": {"name": "speech_transformer", "conv_channels": 12, "ctc_layer": 2},
    "speech_conv2d": {"name": "speech_transformer", "conv_channels": 4, "subsampler": "conv2d"},
    "speech_stack": {"name": "speech_transformer", "subsampler": "stack", "stack_hop": 4},
    "costt_unshrunk": {
        "name": "costt",
        "semantic_layers": 2,
        "conv_channels": 12,
        "reduce": "none",
    },
    "speech_post": {"name": "speech_transformer", "conv_channels": 12, "norm": "post"},
}
VOCAB = 31


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of a tiny model."""
    return str(request.param)


@pytest.fixture
def tiny() -> Callable[..., EncoderDecoder]:
    """Make a tiny model in evaluation mode with weights far from their initial values."""

    def make(kind: str, dtype: torch.dtype = torch.float64, **keys: Any) -> EncoderDecoder:
        torch.manual_seed(1)
        sizes = {"src": VOCAB, "tgt": VOCAB, "ctc": VOCAB}
        model = build_model({**SMALL, **KINDS[kind], **keys}, sizes, 8)
        assert isinstance(model, EncoderDecoder)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
        return model.to(dtype).eval()

    return make


@pytest.fixture
def sources() -> Callable[..., Source]:
    """Make a padded batch for a tiny model; padding holds garbage where it may."""

    def make(kind: str, lengths: list[int], dtype: torch.dtype = torch.float64) -> Source:
        generator = torch.Generator().manual_seed(2)
        counts = torch.tensor(lengths)
        if kind.startswith("text"):
            data = torch.randint(5, VOCAB, (len(lengths), max(lengths)), generator=generator)
            mask = torch.arange(max(lengths)) < counts[:, None]
            return Source(data * mask, counts)
        shape = (len(lengths), 4 * max(lengths), 8)
        data = torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)
        return Source(data, counts * 4 - torch.arange(len(lengths)) % 4)

    return make
