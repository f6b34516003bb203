"""Multi-head attention over the prefix-attention operator: self-attention and cross-attention.

A mask is never built: a padded key, a future token and an unread source state are all keys beyond
the prefix that a query may see (:func:`stk.ops.attention`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stk.modules.linear import linear
from stk.modules.rows import Rows
from stk.ops import attention
from stk.ops.reference.attention import attention_weights


def causal(count: int, device: torch.device) -> Tensor:
    """``(1, count)`` int64: query ``i`` sees itself and what precedes it."""
    return torch.arange(1, count + 1, device=device)[None]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, T, H * d)`` to a view ``(B, H, T, d)``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def split_blocks(x: Tensor, blocks: int, heads: int) -> tuple[Tensor, ...]:
    """``(B, T, blocks * H * d)`` to as many views ``(B, H, T, d)``.

    The backward pass writes each block's gradient where it belongs, once.
    """
    parts: tuple[Tensor, ...] = _SplitBlocks.apply(x, blocks, heads)
    return parts


class _SplitBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, blocks: int, heads: int) -> tuple[Tensor, ...]:
        ctx.shape, ctx.blocks = x.shape, blocks
        return tuple(
            part.transpose(1, 2) for part in x.unflatten(-1, (blocks, heads, -1)).unbind(2)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        batch, time, width = ctx.shape
        heads = grads[0].shape[1]
        whole = grads[0].new_empty(batch, time, ctx.blocks, heads, width // ctx.blocks // heads)
        for block, grad in enumerate(grads):
            whole[:, :, block] = grad.transpose(1, 2)
        return whole.view(ctx.shape), None, None


def join_heads(x: Tensor) -> Tensor:
    """``(B, H, T, d)`` to ``(B, T, H * d)``."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al., 2017), one matrix for query, key and value.

    Args:
        width: of input and output.
        heads: number of heads; divides ``width``.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.heads, self.dropout = heads, dropout
        self.qkv = linear(width, width, blocks=3, gain=2**-0.5)
        self.output = linear(width, width)

    def forward(self, x: Tensor, rows: Rows, visible: Tensor | None = None) -> Tensor:
        """Attend within each row of a batch.

        Args:
            x: ``(N, D)`` or ``(B, T, D)``, as ``rows`` packs it.
            rows: where the real positions are; padded ones are neither read nor computed.
            visible: how many positions each query sees, ``(B,)``, ``(1, T)`` or ``(B, T)`` int64;
                None: every real one.

        Returns:
            Same shape as ``x``.
        """
        query, key, value = split_blocks(rows.unpack(self.qkv(x)), 3, self.heads)
        mixed = attention(
            query,
            key,
            value,
            rows.lengths if visible is None else visible,
            query_lengths=rows.lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(rows.pack(join_heads(mixed)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each ``(..., H, d)``, of states ``(..., D)``."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return query, key, value


class CrossAttention(nn.Module):
    """Multi-head attention to a memory; key and value share one matrix.

    Args:
        width: of queries and output.
        heads: number of heads; divides ``width``.
        memory_width: width of the memory's states; None: ``width``.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(
        self, width: int, heads: int, *, memory_width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.heads, self.dropout = heads, dropout
        self.query = linear(width, width, gain=2**-0.5)
        self.memory = linear(memory_width or width, width, blocks=2, gain=2**-0.5)
        self.output = linear(width, width)

    def forward(
        self,
        x: Tensor,
        rows: Rows,
        memory: Tensor,
        memory_rows: Rows,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Attend from every real position of ``x`` to the memory of its row.

        Args:
            x: ``(N, D)`` or ``(B, T, D)``, as ``rows`` packs it.
            rows: where the real queries are.
            memory: ``(M, D')`` or ``(B, S, D')``, as ``memory_rows`` packs it.
            memory_rows: where the real memory states are.
            visible: how many memory states each query sees, ``(B,)``, ``(1, T)`` or ``(B, T)``
                int64, never beyond the real ones; None: every real one.

        Returns:
            Same shape as ``x``.
        """
        key, value = self.remember(memory, memory_rows)
        mixed = attention(
            split_heads(rows.unpack(self.query(x)), self.heads),
            key,
            value,
            memory_rows.lengths if visible is None else visible,
            query_lengths=rows.lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(rows.pack(join_heads(mixed)))

    def remember(self, memory: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """Key and value ``(B, H, S, d)`` of a memory, as ``rows`` packs it."""
        key, value = split_blocks(rows.unpack(self.memory(memory)), 2, self.heads)
        return key, value

    def recall(self, x: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        """Attend from ``K`` hypotheses of each sentence to its one memory.

        Args:
            x: ``(B, K, D)``.
            key: ``(B, H, S, d)``, from :meth:`remember`.
            value: the same shape.
            visible: ``(B,)`` or ``(B, K)`` int64, memory states that are seen.

        Returns:
            ``(B, K, D)``.
        """
        query = split_heads(self.query(x), self.heads)
        return self.output(join_heads(attention(query, key, value, visible)))

    def weights(
        self,
        x: Tensor,
        rows: Rows,
        memory: Tensor,
        memory_rows: Rows,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Attention weights ``(B, H, T, S)`` for pictures; arguments as in :meth:`forward`.

        Rows of real queries sum to one, those of padded ones to zero.
        """
        key, _ = self.remember(memory, memory_rows)
        return attention_weights(
            split_heads(rows.unpack(self.query(x)), self.heads),
            key,
            memory_rows.lengths if visible is None else visible,
            query_lengths=rows.lengths,
        )


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of {heads} heads")
