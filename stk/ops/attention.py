"""Prefix attention: every query sees a prefix of the keys."""

from __future__ import annotations

import torch
from torch import Tensor

from stk.ops._library import kernels_on
from stk.ops._random import resolve_seed
from stk.ops.reference.attention import attention_reference

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTEGERS = (torch.int64, torch.int32)


def attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None, *,
              query_lengths: Tensor | None = None, scale: float | None = None,
              dropout_p: float = 0.0, seed: int | Tensor | None = None,
              offset: int | Tensor | None = None) -> Tensor:
    """Scaled dot-product attention in which query ``i`` sees the first ``visible[b, i]`` keys.

    Key padding, causal decoding, chunk-causal streaming encoders and wait-k cross-attention are
    all that one rule. The scores are never held whole: memory is linear in ``Tq + Tk``, and tiles
    that no query sees are skipped, not masked (tiling and saved log-sum-exp after Dao et al. 2022;
    attention itself Vaswani et al. 2017). The forward is deterministic, and so is the backward on
    the CPU. Second-order gradients are an error.

    Args:
        query: ``(B, H, Tq, d)``, fp32, fp16, bf16 (fp64 on the CPU, for checks); any strides.
        key: ``(B, H, Tk, d)``, same dtype and device.
        value: ``(B, H, Tk, dv)``; ``dv`` may differ from ``d``.
        visible: how many keys a query sees, int32 or int64 in ``0..Tk``: None = all of them,
            ``(B,)`` = one number per row (hides key padding), ``(1, Tq)`` or ``(B, Tq)`` = one per
            query (causal: ``torch.arange(1, Tq + 1)[None]``). A query that sees nothing returns
            zeros and has zero gradients.
        query_lengths: ``(B,)`` integers in ``0..Tq``: queries from there on are padding; they cost
            nothing, return zeros and pass no gradient. None = every query is real.
        scale: factor on the scores; None = ``d ** -0.5``.
        dropout_p: probability with which an attention weight is dropped, ``0 <= p < 1``; kept
            weights are divided by ``1 - p``. Pass 0 in evaluation.
        seed: 64-bit integer or 0-dim int64 tensor for dropout's counter-based generator (Philox
            4x32-10, Salmon et al. 2011; the mask depends on the element and not on the tiling or
            the device). None draws from PyTorch's default generator.
        offset: integer or 0-dim int64 tensor that is advanced to get another mask from one seed;
            None = 0.

    Returns:
        ``(B, H, Tq, dv)``, in the dtype of the inputs. Under autocast the inputs are cast to the
        autocast dtype first. fp16 and bf16 accumulate in fp32.

    Raises:
        ValueError: a rank, size, dtype, device or probability that does not fit; on the CPU also
            a ``visible`` or ``query_lengths`` out of range. On CUDA such lengths are clamped
            (``STK_CHECK=1`` checks them there too, with a synchronisation).
    """
    device = query.device
    if torch.is_autocast_enabled(device.type) and query.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    _check(query, key, value, visible, query_lengths, dropout_p)
    if scale is None:
        scale = query.shape[3] ** -0.5
    if dropout_p > 0.0:
        seed, offset = resolve_seed(seed, offset, device)
    else:
        seed, offset = None, None
    return attention_reference(query, key, value, visible, query_lengths=query_lengths, scale=scale,
                               dropout_p=dropout_p, seed=seed, offset=offset)


def _check(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None,
           query_lengths: Tensor | None, dropout_p: float) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != 4:
            raise ValueError(f"{name}: expected (B, H, T, d), got shape {tuple(tensor.shape)}")
        if tensor.dtype not in _FLOATS or tensor.dtype != query.dtype:
            raise ValueError(f"{name}: expected a floating dtype, the same for query, key and "
                             f"value, got {tensor.dtype} beside query {query.dtype}")
        if tensor.device != query.device:
            raise ValueError(f"{name}: on {tensor.device}, query on {query.device}")
    batch, heads, query_count, width = query.shape
    key_count = key.shape[2]
    if key.shape != (batch, heads, key_count, width):
        raise ValueError(f"key: expected ({batch}, {heads}, Tk, {width}) as query has it, got "
                         f"shape {tuple(key.shape)}")
    if value.shape[:3] != key.shape[:3]:
        raise ValueError(f"value: expected ({batch}, {heads}, {key_count}, dv) as key has it, got "
                         f"shape {tuple(value.shape)}")
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p: expected 0 <= p < 1, got {dropout_p}")
    if visible is not None:
        if visible.shape not in ((batch,), (1, query_count), (batch, query_count)):
            raise ValueError(f"visible: expected ({batch},), (1, {query_count}) or ({batch}, "
                             f"{query_count}), got shape {tuple(visible.shape)}")
        _check_counts("visible", visible, query.device)
    if query_lengths is not None:
        if query_lengths.shape != (batch,):
            raise ValueError(f"query_lengths: expected ({batch},), got shape "
                             f"{tuple(query_lengths.shape)}")
        _check_counts("query_lengths", query_lengths, query.device)


def _check_counts(name: str, counts: Tensor, device: torch.device) -> None:
    if counts.dtype not in _INTEGERS:
        raise ValueError(f"{name}: expected int64 or int32, got {counts.dtype}")
    if counts.device != device:
        raise ValueError(f"{name}: on {counts.device}, query on {device}")
