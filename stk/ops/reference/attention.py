"""Prefix attention in plain PyTorch: the meaning that the kernels are held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stk.ops._random import philox


def visible_mask(
    visible: Tensor | None,
    query_lengths: Tensor | None,
    scores: tuple[int, int],
    device: torch.device,
) -> Tensor | None:
    """The boolean mask that ``visible`` and ``query_lengths`` describe (True = may be attended).

    Args:
        visible: None, ``(B,)``, ``(1, Tq)`` or ``(B, Tq)`` integers.
        query_lengths: None or ``(B,)`` integers.
        scores: ``(Tq, Tk)``.
        device: where the mask is made.

    Returns:
        None where every query sees every key, else boolean, of shape
        ``(B or 1, 1, Tq or 1, Tk)``.
    """
    query_count, key_count = scores
    mask = None
    if visible is not None:
        prefix = visible[:, None] if visible.dim() == 1 else visible
        mask = torch.arange(key_count, device=device) < prefix[:, None, :, None]
    if query_lengths is not None:
        real = torch.arange(query_count, device=device) < query_lengths[:, None]
        mask = real[:, None, :, None] if mask is None else mask & real[:, None, :, None]
        mask = mask.expand(-1, -1, -1, key_count)
    return mask


def keep_mask(
    shape: tuple[int, ...], dropout_p: float, seed: Tensor, offset: Tensor, device: torch.device
) -> Tensor:
    """Which attention weights dropout keeps (True = kept), the same bits as in the kernels.

    The random word of weight ``(b, h, i, j)`` is word ``j % 4`` of the Philox 4x32-10 group
    ``((b * H + h) * Tq + i) * ceil(Tk / 4) + j // 4``: it depends on the element alone and not on
    how the work is cut. A weight is kept where the word is at least ``floor(dropout_p * 2**32)``.

    Args:
        shape: ``(B, H, Tq, Tk)``.
        dropout_p: probability of dropping, ``0 <= dropout_p < 1``.
        seed: 0-dim int64.
        offset: 0-dim int64.
        device: where the mask is made.
    """
    batch, heads, query_count, key_count = shape
    blocks = (key_count + 3) // 4
    rows = batch * heads * query_count
    groups = torch.arange(rows * blocks, device=device)
    words = philox(groups, seed, offset).view(rows, 4 * blocks)[:, :key_count]
    return (words >= int(dropout_p * 2**32)).view(shape)


def attention_weights(
    query: Tensor,
    key: Tensor,
    visible: Tensor | None = None,
    *,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention weights, for pictures and alignments: ``(B, H, Tq, Tk)`` in at least fp32.

    Arguments are those of :func:`stk.ops.attention`. Rows of queries that see nothing, and of
    padded queries, are zero; every other row sums to one. Memory grows with ``Tq * Tk``.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = torch.matmul(query.to(wide) * scale, key.to(wide).transpose(-2, -1))
    mask = visible_mask(visible, query_lengths, (query.shape[2], key.shape[2]), query.device)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    # A row of -inf alone would give NaN, forward and backward: such a row sees all here and is
    # set to zero afterwards.
    sees = mask.any(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~mask & sees, float("-inf")), dim=-1)
    return weights.masked_fill(~sees, 0.0)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None = None,
    *,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """Prefix attention; same arguments and result as :func:`stk.ops.attention`.

    Any floating dtype and any device; ``dropout_p > 0`` needs ``seed`` and ``offset`` as 0-dim
    int64 tensors. Without dropout it is PyTorch's own
    ``scaled_dot_product_attention`` with a mask, so it is as fast as PyTorch allows.
    """
    batch, heads, query_count, _ = query.shape
    key_count = key.shape[2]
    if dropout_p > 0.0 or 0 in (batch, heads, query_count, key_count):
        weights = attention_weights(query, key, visible, query_lengths=query_lengths, scale=scale)
        if dropout_p > 0.0 and seed is not None and offset is not None:
            kept = keep_mask(tuple(weights.shape), dropout_p, seed, offset, query.device)
            weights = weights * kept / (1.0 - dropout_p)
        return torch.matmul(weights, value.to(weights.dtype)).to(query.dtype)
    mask = visible_mask(visible, query_lengths, (query_count, key_count), query.device)
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    # What a backend returns for a row without any key differs: let it see one, then zero it.
    sees = mask.any(dim=-1, keepdim=True)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask | ~sees, scale=scale)
    return torch.where(sees, output, torch.zeros((), dtype=output.dtype, device=output.device))
