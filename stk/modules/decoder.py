"""The Transformer decoder: tokens in, logits out, whole or one token at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stk.modules.attention import causal
from stk.modules.cache import SelfCache
from stk.modules.dropout import dropout
from stk.modules.linear import linear
from stk.modules.norm import LayerNorm
from stk.modules.rows import Rows
from stk.modules.text_embedding import EmbeddingShape, TextEmbedding
from stk.modules.transformer import DecoderLayer, LayerShape


@dataclass(frozen=True)
class TransformerState:
    """A running search over ``B`` sentences times ``K`` hypotheses.

    Attributes:
        cache: keys and values of what the ``B * K`` hypotheses have read.
        memory: key and value ``(B, H, S, d)`` of every layer, once a sentence; None for a layer
            that attends to none.
        memory_lengths: ``(B,)`` int64.
        languages: ``(B,)`` int64, what each sentence is written in, for language embeddings; or
            None.
    """

    cache: SelfCache
    memory: tuple[tuple[Tensor, Tensor] | None, ...]
    memory_lengths: Tensor
    languages: Tensor | None = None

    @property
    def hypotheses(self) -> int:
        """``K``."""
        return self.cache.rows // max(1, len(self.memory_lengths))

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> TransformerState:
        """The state for the chosen hypotheses of the kept sentences.

        Args:
            hypotheses: ``(B, K')`` int64 in ``0..K-1``.
            sentences: ``(B',)`` int64 in ``0..B-1``, applied after ``hypotheses``; None: all.
        """
        count = len(self.memory_lengths)
        first = torch.arange(count, device=hypotheses.device)[:, None] * self.hypotheses
        rows = first + hypotheses
        if sentences is None:
            return replace(self, cache=self.cache.select(rows.flatten()))
        memory = tuple(
            None if pair is None else (pair[0][sentences], pair[1][sentences])
            for pair in self.memory
        )
        cache = self.cache.select(rows.index_select(0, sentences).flatten())
        languages = None if self.languages is None else self.languages.index_select(0, sentences)
        lengths = self.memory_lengths.index_select(0, sentences)
        return TransformerState(cache, memory, lengths, languages)


class Decoder(TextEmbedding):
    """Embedding, decoder layers, final norm where layers are pre-norm, output projection.

    Args:
        shape: of the layers.
        layers: how many.
        size: of the target vocabulary.
        memory_width: width of the encoder's states; None: the decoder's own.
        position_kind: ``sinusoidal`` or ``learned``.
        position_limit: bound of learned positions.
        embedding: how tokens enter, positions included; None: plainly, with those positions.
        tied: whether the output projection is the embedding matrix.
        output_bias: whether a tied projection adds a bias.

    Attributes:
        activation_checkpointing: as in :class:`stk.modules.transformer.EncoderStack`.
    """

    def __init__(
        self,
        shape: LayerShape,
        layers: int,
        size: int,
        *,
        memory_width: int | None = None,
        position_kind: str = "sinusoidal",
        position_limit: int = 1024,
        embedding: EmbeddingShape | None = None,
        tied: bool = True,
        output_bias: bool = False,
    ) -> None:
        plain = EmbeddingShape(positions=position_kind, max_positions=position_limit)
        super().__init__(size, shape.width, embedding or plain)
        self.shape, self.dropout = shape, shape.dropout
        self.layers = nn.ModuleList(
            DecoderLayer(shape, memory_width=memory_width) for _ in range(layers)
        )
        self.norm = LayerNorm(shape.width) if shape.norm == "pre" else None
        self.output = None if tied else linear(shape.width, size)
        self.output_bias = nn.Parameter(torch.zeros(size)) if tied and output_bias else None
        self.activation_checkpointing = False

    def forward(
        self,
        target: Tensor,
        target_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        memory_visible: Tensor | None = None,
        *,
        places: Tensor | None = None,
        languages: Tensor | None = None,
    ) -> Tensor:
        """States of a teacher-forced pass, normalised and ready for :meth:`project`.

        Args:
            target: ``(B, U)`` int64 tokens to read.
            target_lengths: ``(B,)`` int64.
            memory: ``(B, S, D')`` encoder states.
            memory_lengths: ``(B,)`` int64.
            memory_visible: ``(1, U)`` or ``(B, U)`` int64, how much of the memory each position
                sees (simultaneous translation); None: all that is real.
            places: ``(B, U)`` int64 positions of the tokens; None: one after another.
            languages: ``(B,)`` int64, for language embeddings.

        Returns:
            ``(B, U, D)``, zero in the padding.
        """
        rows = Rows(target_lengths, target.shape[1])
        memory_rows = Rows(memory_lengths, memory.shape[1])
        packed = memory_rows.pack(memory)
        visible = causal(target.shape[1], target.device)
        embedded = self.embed(target, places=places, languages=languages)
        x = dropout(rows.pack(embedded), self.dropout, self.training)
        for layer in self.layers:
            arguments = (x, rows, visible, packed, memory_rows, memory_visible)
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                x = layer(*arguments)
        return rows.clean(x if self.norm is None else self.norm(x))

    def project(self, states: Tensor) -> Tensor:
        """Logits ``(..., V)`` of states ``(..., D)``."""
        if self.output is not None:
            return self.output(states)
        logits = self.embedding.project(states)
        return logits if self.output_bias is None else logits + self.output_bias

    def start(
        self, memory: Tensor, memory_lengths: Tensor, languages: Tensor | None = None
    ) -> TransformerState:
        """The state of a search with one hypothesis a sentence and nothing read.

        Args:
            memory: ``(B, S, D')`` encoder states.
            memory_lengths: ``(B,)`` int64.
            languages: ``(B,)`` int64, for language embeddings.
        """
        rows = Rows(memory_lengths, memory.shape[1])
        packed = rows.pack(memory)
        remembered = tuple(layer.remember(packed, rows) for layer in self._layers())
        heads, layers = self.shape.heads, len(self.layers)
        cache = SelfCache.empty(len(memory), layers, heads, self.shape.width // heads, memory)
        return TransformerState(cache, remembered, memory_lengths, languages)

    def step(
        self, tokens: Tensor, state: TransformerState, memory_visible: Tensor | None = None
    ) -> tuple[Tensor, TransformerState]:
        """Read one token of every hypothesis.

        Args:
            tokens: ``(B, K)`` int64.
            state: of ``B`` sentences and ``K`` hypotheses.
            memory_visible: ``(B,)`` or ``(B, K)`` int64; None: all real memory.

        Returns:
            Logits ``(B, K, V)`` of what follows, and the new state.
        """
        visible = state.memory_lengths if memory_visible is None else memory_visible
        languages = state.languages
        x = self.embed(tokens, start=state.cache.length, repeat=True, languages=languages)
        x = dropout(x, self.dropout, self.training)
        cache = state.cache.extend()
        for number, layer in enumerate(self._layers()):
            x = layer.step(x, cache, number, state.memory[number], visible)
        logits = self.project(x if self.norm is None else self.norm(x))
        return logits, replace(state, cache=cache)

    def _layers(self) -> Iterator[DecoderLayer]:
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer
