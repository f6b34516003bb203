"""Language models over one stack: masked (Devlin et al., 2019), causal, and cross-lingual
(Conneau and Lample, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stk.data.batch import Source
from stk.models.encoder_decoder import vocab_size
from stk.models.outputs import Encoded
from stk.models.text_transformer import TextEncoder, set_eps
from stk.modules.attention import causal
from stk.modules.cache import SelfCache
from stk.modules.decoder import TransformerState
from stk.modules.embedding import TokenEmbedding
from stk.modules.linear import linear
from stk.modules.norm import LayerNorm
from stk.modules.text_embedding import EmbeddingShape
from stk.modules.transformer import Activation, LayerShape, Norm


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Configuration of :class:`LanguageModel`.

    ``languages`` is the size of the table of language embeddings, at least the number of the
    vocabulary's tags (0: none). ``head: transform`` puts a linear layer, GELU and a norm before
    the output, as BERT does; the output matrix is the embedding in either case.
    """

    layers: int
    width: int
    ffn: int
    heads: int
    norm: Norm = "post"
    activation: Activation = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    positions: Literal["sinusoidal", "learned"] = "learned"
    max_positions: int = 512
    languages: int = 0
    embedding_norm: bool = True
    embedding_scale: bool = False
    head: Literal["linear", "transform"] = "linear"
    view: str = "src"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError("layers must be at least 1")
        _ = self.shape  # which looks at its own sizes and rates

    @property
    def shape(self) -> LayerShape:
        """The shape of the layers."""
        return LayerShape(
            width=self.width,
            ffn=self.ffn,
            heads=self.heads,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            norm=self.norm,
            activation=self.activation,
        )

    @property
    def embedding_shape(self) -> EmbeddingShape:
        """How tokens enter."""
        return EmbeddingShape(
            positions=self.positions,
            max_positions=self.max_positions,
            languages=self.languages,
            scaled=self.embedding_scale,
            normalize=self.embedding_norm,
        )


class TokenHead(nn.Module):
    """States to logits against the embedding, with a bias; at will transformed before.

    Args:
        width: of the states.
        size: of the vocabulary.
        transform: whether a linear layer, GELU and a norm come first.
    """

    def __init__(self, width: int, size: int, *, transform: bool) -> None:
        super().__init__()
        self.dense = linear(width, width) if transform else None
        self.norm = LayerNorm(width) if transform else None
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, states: Tensor, embedding: TokenEmbedding) -> Tensor:
        """Logits ``(..., V)`` of states ``(..., D)``."""
        if self.dense is not None and self.norm is not None:
            states = self.norm(F.gelu(self.dense(states)))
        return embedding.project(states) + self.bias


class LanguageModel(nn.Module):
    """One stack that reads text, and a head that names tokens. View: ``view``.

    The same weights serve as a masked language model, which sees both sides, and as a causal one.
    ``encoder.`` has the names of a text Transformer's encoder, which it can initialise; likewise
    a decoder, apart from cross-attention:
    ``{decoder.embedding: encoder.embedding, decoder.layers: encoder.stack.layers, ...}`` with
    ``spare: cross_attention``.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: not used; text has no features.

    Raises:
        StkError: the view is missing.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "xlm12": {"layers": 12, "width": 1024, "ffn": 4096, "heads": 8},
        "xlm6": {"layers": 6, "width": 1024, "ffn": 4096, "heads": 8},
        "base": {"layers": 12, "width": 768, "ffn": 3072, "heads": 12, "head": "transform"},
        "small": {"layers": 6, "width": 512, "ffn": 2048, "heads": 8},
    }

    def __init__(
        self,
        config: LanguageModelConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        size = vocab_size(vocab_sizes, config.view)
        self.encoder = TextEncoder(config.shape, config.layers, size, config.embedding_shape)
        self.head = TokenHead(config.width, size, transform=config.head == "transform")
        set_eps(self, config.norm_eps)

    def encode(self, source: Source, *, causal_only: bool = False) -> Encoded:
        """States ``(B, S, D)`` of ``source.data (B, S)`` int64, zero in the padding.

        Args:
            source: ids, at will with positions and languages.
            causal_only: whether a token sees only itself and what precedes it.
        """
        visible = causal(source.data.shape[1], source.data.device) if causal_only else None
        states, _ = self.encoder(source, None, visible)
        return Encoded(states, source.lengths)

    def start(self, count: int, languages: Tensor | None = None) -> TransformerState:
        """Where causal reading of ``count`` texts begins: nothing is read yet.

        Args:
            count: B.
            languages: ``(B,)`` int64 rows of the table of language embeddings; needed where the
                model has one.
        """
        weight, config = self.encoder.embedding.weight, self.config
        cache = SelfCache.empty(
            count, config.layers, config.heads, config.width // config.heads, weight
        )
        nothing = torch.zeros(count, dtype=torch.int64, device=weight.device)
        return TransformerState(cache, (), nothing, languages)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Read ``tokens (B, K)`` int64; return logits ``(B, K, V)`` of what follows, and the state.

        The logits are those of :meth:`encode` with ``causal_only``, one token at a time.
        """
        x = self.encoder.embed(
            tokens, start=state.cache.length, repeat=True, languages=state.languages
        )
        cache = state.cache.extend()
        logits = self.project(self.encoder.stack.step(x, cache))
        return logits, replace(state, cache=cache)

    def project(self, states: Tensor) -> Tensor:
        """Logits ``(..., V)`` of states ``(..., D)``."""
        logits: Tensor = self.head(states, self.encoder.embedding)
        return logits

    @property
    def activation_checkpointing(self) -> bool:
        """Whether training recomputes layers in the backward pass, to save memory; settable."""
        return self.encoder.stack.activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, on: bool) -> None:
        self.encoder.stack.activation_checkpointing = on
