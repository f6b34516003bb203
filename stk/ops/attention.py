"""Prefix attention: every query sees a prefix of the keys."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from stk.ops import _library, _random
from stk.ops.reference import attention as _reference

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None = None,
    *,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    offset: int | Tensor | None = None,
) -> Tensor:
    """Scaled dot-product attention in which query ``i`` sees the first ``visible[b, i]`` keys.

    Key padding, causal decoding, chunk-causal streaming encoders and wait-k cross-attention are
    all that one rule. The scores are never held whole: memory is linear in ``Tq + Tk``, and tiles
    that no query sees are skipped, not masked (tiling and saved log-sum-exp after Dao et al. 2022;
    attention itself Vaswani et al. 2017). Forward and backward are deterministic, on the CPU and on
    CUDA. Second-order gradients are an error.

    Padded queries, and keys beyond what any query sees, are not read, so they may hold anything.
    On CUDA, fp32 products are as exact as fp32 arithmetic (each operand split in two tf32 parts),
    heads have at most 128 elements, and fp64 takes the reference.

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
        ValueError: a rank, size, device or probability that does not fit; on the CPU also a
            ``visible`` or ``query_lengths`` out of range. On CUDA such counts are clamped
            (``STK_CHECK=1`` checks them there too, with a synchronisation).
        TypeError: a dtype that does not fit.
    """
    device = query.device
    if torch.is_autocast_enabled(device.type) and query.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if scale is None:
        scale = query.shape[-1] ** -0.5
    pair: tuple[Tensor | None, Tensor | None] = (None, None)
    if dropout_p > 0.0:
        pair = _random.seed_pair(seed, offset, device)
    if _library.kernels_on(device) and not (device.type == "cuda" and query.dtype == torch.float64):
        if _library.CHECK and device.type == "cuda":
            _check_values(visible, query_lengths, query.shape[2], key.shape[2])
        if not (
            torch.is_grad_enabled()
            and (query.requires_grad or key.requires_grad or value.requires_grad)
        ):
            return torch.ops.stk.attention_inference(
                query, key, value, visible, query_lengths, *pair, scale, dropout_p
            )
        return torch.ops.stk.attention(
            query, key, value, visible, query_lengths, *pair, scale, dropout_p
        )[0]
    _check(query, key, value, visible, query_lengths, dropout_p)
    _check_values(visible, query_lengths, query.shape[2], key.shape[2])
    with torch.autocast(device.type, enabled=False):
        return _reference.attention(
            query, key, value, visible, query_lengths=query_lengths, scale=scale,
            dropout_p=dropout_p, seed=pair[0], offset=pair[1],
        )  # fmt: skip


def _empty_heads(like: Tensor, count: int, width: int) -> Tensor:
    """``(B, H, count, width)`` that lies in memory as ``(B, count, H, width)``, as kernels do."""
    return like.new_empty(like.shape[0], count, like.shape[1], width).transpose(1, 2)


@_library.register_fake("attention")
def _fake(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    query_lengths: Tensor | None,
    seed: Tensor | None,
    offset: Tensor | None,
    scale: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    _check(query, key, value, visible, query_lengths, dropout_p)
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    return (
        _empty_heads(query, query.shape[2], value.shape[3]),
        query.new_empty(query.shape[:3], dtype=wide),
    )


@_library.register_fake("attention_inference")
def _fake_inference(query: Tensor, *rest: Any) -> Tensor:
    return _fake(query, *rest)[0]


@_library.register_fake("attention_backward")
def _fake_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    query_grad, key_grad, value_grad = (
        _empty_heads(tensor, tensor.shape[2], tensor.shape[3]) for tensor in (query, key, value)
    )
    return query_grad, key_grad, value_grad


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.dropout_p = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors[:3], *output, *tensors[3:])


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 9
    grads = torch.ops.stk.attention_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.dropout_p)
    return (*grads, *(None,) * 6)


_library.register_autograd("attention", _backward, _setup_context)
_library.forbid_gradient("attention_backward", "second-order gradients are not supported")


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    query_lengths: Tensor | None,
    dropout_p: float,
) -> None:
    """What can be known from shapes; csrc/attention/attention_check.h says the same of kernels."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != 4:
            _refuse(name, tensor, "(B, H, T, d)")
        if tensor.dtype not in _FLOATS or tensor.dtype != query.dtype:
            raise TypeError(
                f"stk.ops.attention: {name} has dtype {tensor.dtype} but expected one floating "
                f"dtype for query ({query.dtype}), key and value"
            )
        _check_device(name, tensor, query)
    batch, heads, query_count, width = query.shape
    key_count = key.shape[2]
    if key.shape != (batch, heads, key_count, width):
        _refuse("key", key, f"({batch}, {heads}, Tk, {width}), as query has it")
    if value.shape[:3] != key.shape[:3]:
        _refuse("value", value, f"({batch}, {heads}, {key_count}, dv), as key has it")
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"stk.ops.attention: dropout_p is {dropout_p} but expected 0 <= p < 1")
    if visible is not None:
        if visible.shape not in ((batch,), (1, query_count), (batch, query_count)):
            _refuse(
                "visible", visible, f"({batch},), (1, {query_count}) or ({batch}, {query_count})"
            )
        _check_counts("visible", visible, query)
    if query_lengths is not None:
        if query_lengths.shape != (batch,):
            _refuse("query_lengths", query_lengths, f"({batch},)")
        _check_counts("query_lengths", query_lengths, query)


def _refuse(name: str, tensor: Tensor, expected: str) -> NoReturn:
    raise ValueError(
        f"stk.ops.attention: {name} has shape {tuple(tensor.shape)} but expected {expected}"
    )


def _check_device(name: str, tensor: Tensor, query: Tensor) -> None:
    if tensor.device != query.device:
        raise ValueError(
            f"stk.ops.attention: {name} is on {tensor.device} but query is on {query.device}"
        )


def _check_counts(name: str, counts: Tensor, query: Tensor) -> None:
    if counts.dtype not in (torch.int64, torch.int32):
        raise TypeError(
            f"stk.ops.attention: {name} has dtype {counts.dtype} but expected int64 or int32"
        )
    _check_device(name, counts, query)


def _check_values(
    visible: Tensor | None, query_lengths: Tensor | None, query_count: int, key_count: int
) -> None:
    """Counts in range, where reading them costs no synchronisation or ``STK_CHECK=1`` asks."""
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return
    for name, counts, limit in (
        ("visible", visible, key_count),
        ("query_lengths", query_lengths, query_count),
    ):
        if counts is None or counts.device.type == "meta":
            continue
        if not (_library.CHECK or counts.device.type == "cpu"):
            continue
        if bool(((counts < 0) | (counts > limit)).any()):
            raise ValueError(
                f"stk.ops.attention: {name} has values from {int(counts.min())} to "
                f"{int(counts.max())} but expected 0 to {limit}"
            )
