"""Transformer layers and the encoder stack (Vaswani et al., 2017).

Pre-norm layers normalise what enters each block and leave the residual path bare (Wang et al.,
2019); their stacks end in a normalisation. Post-norm layers normalise the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stk.modules.attention import CrossAttention, SelfAttention
from stk.modules.cache import SelfCache
from stk.modules.dropout import add_dropout, dropout
from stk.modules.feed_forward import relu_feed_forward
from stk.modules.linear import linear
from stk.modules.norm import LayerNorm
from stk.modules.rows import Rows
from stk.ops import attention

Activation = Literal["relu", "gelu", "silu"]
Norm = Literal["pre", "post"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
}


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What layers of one stack have in common.

    Attributes:
        width: of the residual stream.
        ffn: inner width of the feed-forward block.
        heads: attention heads.
        dropout: on what each block adds to the residual stream.
        attention_dropout: on attention weights.
        activation_dropout: inside the feed-forward block.
        norm: ``pre`` or ``post``.
        activation: of the feed-forward block.

    Raises:
        ValueError: a size below 1, a width that heads do not share evenly, a dropout rate outside
            of [0, 1).
    """

    width: int
    ffn: int
    heads: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    norm: Norm = "pre"
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        for name in ("width", "ffn", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1)")


class FeedForward(nn.Module):
    """Two linear layers with an activation between, applied to each position alone."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.activation, self.dropout = shape.activation, shape.activation_dropout
        self.inner = linear(shape.width, shape.ffn)
        self.outer = linear(shape.ffn, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., D)``."""
        if self.activation == "relu":
            rate = self.dropout if self.training else 0.0
            return relu_feed_forward(x, self.inner, self.outer, rate)
        hidden = _ACTIVATIONS[self.activation](self.inner(x))
        return self.outer(dropout(hidden, self.dropout, self.training))


class _Layer(nn.Module):
    """What encoder and decoder layers share: self-attention, how a block joins the residual
    stream."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.pre, self.dropout = shape.norm == "pre", shape.dropout
        self.self_attention = SelfAttention(
            shape.width, shape.heads, dropout=shape.attention_dropout
        )
        self.self_attention_norm = LayerNorm(shape.width)

    def _enter(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.pre else x

    def _leave(self, x: Tensor, added: Tensor, norm: nn.Module) -> Tensor:
        x = add_dropout(x, added, self.dropout, self.training)
        return x if self.pre else norm(x)

    def _read(self, x: Tensor, cache: SelfCache, layer: int) -> Tensor:
        """Self-attention of one more token of every hypothesis, ``x (B, K, D)``."""
        entered = self._enter(x, self.self_attention_norm).flatten(0, 1)
        query, key, value = self.self_attention.project(entered)
        keys, values = cache.write(layer, key, value)
        mixed = attention(query[:, :, None], keys, values)
        added = self.self_attention.output(mixed.flatten(1)).view_as(x)
        return self._leave(x, added, self.self_attention_norm)


class EncoderLayer(_Layer):
    """Self-attention, then feed-forward."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_norm = LayerNorm(shape.width)

    def forward(self, x: Tensor, rows: Rows, visible: Tensor | None = None) -> Tensor:
        """One layer over ``x``, ``(N, D)`` or ``(B, T, D)`` as ``rows`` packs it.

        Args:
            x: the residual stream.
            rows: where the real positions are.
            visible: what each position sees, as in :class:`SelfAttention`.
        """
        added = self.self_attention(self._enter(x, self.self_attention_norm), rows, visible)
        x = self._leave(x, added, self.self_attention_norm)
        added = self.feed_forward(self._enter(x, self.feed_forward_norm))
        return self._leave(x, added, self.feed_forward_norm)

    def step(self, x: Tensor, cache: SelfCache, layer: int) -> Tensor:
        """Read one more token of every hypothesis, which sees itself and what precedes it.

        Args:
            x: ``(B, K, D)``.
            cache: of all ``B * K`` hypotheses, extended for this token already.
            layer: this layer's index in the cache.
        """
        x = self._read(x, cache, layer)
        added = self.feed_forward(self._enter(x, self.feed_forward_norm))
        return self._leave(x, added, self.feed_forward_norm)


class DecoderLayer(_Layer):
    """Causal self-attention, attention to the memory, then feed-forward.

    Args:
        shape: sizes.
        memory_width: width of the memory's states; None: that of the layer.
        cross: whether the layer attends to a memory at all.
    """

    def __init__(
        self, shape: LayerShape, *, memory_width: int | None = None, cross: bool = True
    ) -> None:
        super().__init__(shape)
        self.cross_attention: CrossAttention | None = None
        if cross:
            self.cross_attention = CrossAttention(
                shape.width,
                shape.heads,
                memory_width=memory_width,
                dropout=shape.attention_dropout,
            )
            self.cross_attention_norm = LayerNorm(shape.width)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_norm = LayerNorm(shape.width)

    def forward(
        self,
        x: Tensor,
        rows: Rows,
        visible: Tensor,
        memory: Tensor,
        memory_rows: Rows,
        memory_visible: Tensor | None = None,
    ) -> Tensor:
        """One layer over ``x``, ``(N, D)`` or ``(B, U, D)`` as ``rows`` packs it.

        Args:
            x: the residual stream.
            rows: where the real target positions are.
            visible: what each target position sees of the target, ``(1, U)`` or ``(B, U)`` int64.
            memory: encoder states, as ``memory_rows`` packs them.
            memory_rows: where the real states are.
            memory_visible: what each target position sees of the memory; None: all that is real.
        """
        added = self.self_attention(self._enter(x, self.self_attention_norm), rows, visible)
        x = self._leave(x, added, self.self_attention_norm)
        if self.cross_attention is not None:
            added = self.cross_attention(
                self._enter(x, self.cross_attention_norm), rows, memory, memory_rows, memory_visible
            )
            x = self._leave(x, added, self.cross_attention_norm)
        added = self.feed_forward(self._enter(x, self.feed_forward_norm))
        return self._leave(x, added, self.feed_forward_norm)

    def remember(self, memory: Tensor, rows: Rows) -> tuple[Tensor, Tensor] | None:
        """Key and value ``(B, H, S, d)`` of a memory that ``rows`` packs; None without one.

        Each head's block is contiguous, since every step reads all of it.
        """
        if self.cross_attention is None:
            return None
        key, value = self.cross_attention.remember(memory, rows)
        return key.contiguous(), value.contiguous()

    def step(
        self,
        x: Tensor,
        cache: SelfCache,
        layer: int,
        memory: tuple[Tensor, Tensor] | None,
        memory_visible: Tensor,
    ) -> Tensor:
        """Read one more token of every hypothesis.

        Args:
            x: ``(B, K, D)``.
            cache: of all ``B * K`` hypotheses, extended for this token already.
            layer: this layer's index in the cache.
            memory: key and value ``(B, H, S, d)``, once a sentence.
            memory_visible: ``(B,)`` or ``(B, K)`` int64.

        Returns:
            ``(B, K, D)``.
        """
        x = self._read(x, cache, layer)
        if self.cross_attention is not None:
            assert memory is not None
            entered = self._enter(x, self.cross_attention_norm)
            added = self.cross_attention.recall(entered, *memory, memory_visible)
            x = self._leave(x, added, self.cross_attention_norm)
        added = self.feed_forward(self._enter(x, self.feed_forward_norm))
        return self._leave(x, added, self.feed_forward_norm)


class EncoderStack(nn.Module):
    """A stack of encoder layers; pre-norm stacks end in a normalisation.

    Args:
        shape: of the layers.
        layers: how many.
        layer_drop: probability of leaving out each layer of a pass in training (Fan et al., 2020);
            every process draws for itself, from PyTorch's default generator of the CPU.

    Attributes:
        activation_checkpointing: whether the backward pass recomputes each layer instead of
            keeping what it needs; a training loop may set it.
    """

    def __init__(self, shape: LayerShape, layers: int, *, layer_drop: float = 0.0) -> None:
        super().__init__()
        self.layer_drop = layer_drop
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(layers))
        self.norm = LayerNorm(shape.width) if shape.norm == "pre" else None
        self.activation_checkpointing = False

    def forward(
        self, x: Tensor, rows: Rows, visible: Tensor | None = None, taps: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Run the stack.

        Args:
            x: ``(N, D)`` or ``(B, T, D)``, as ``rows`` packs it.
            rows: where the real positions are.
            visible: what each position sees, as in :class:`stk.modules.attention.SelfAttention`.
            taps: layers, counted from 1, whose output is wanted too (before the final norm).

        Returns:
            The output, and layer -> tapped output, all in the form of ``x``.
        """
        tapped: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers, 1):
            if self.training and self.layer_drop and float(torch.rand(())) < self.layer_drop:
                pass
            elif self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, rows, visible, use_reentrant=False)
            else:
                x = layer(x, rows, visible)
            if number in taps:
                tapped[number] = x
        return (x if self.norm is None else self.norm(x)), tapped

    def step(self, x: Tensor, cache: SelfCache) -> Tensor:
        """Read one more token of every hypothesis: ``(B, K, D)`` to ``(B, K, D)``.

        Args:
            x: vectors of the tokens.
            cache: as in :meth:`EncoderLayer.step`, of all layers.
        """
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, EncoderLayer)
            x = layer.step(x, cache, number)
        return x if self.norm is None else self.norm(x)
