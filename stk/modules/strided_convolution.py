"""Convolution over time as matrix products over strided views: nothing is unfolded or transposed.

A kernel of k taps and a stride s is cut into pieces of at most s taps. Of frames ``(B, T, C)`` that
lie one after another, what a piece of t taps reads is a matrix of rows of ``t * C`` numbers, ``s *
C`` apart, which a matrix product takes as it is. On the CPU this is faster than PyTorch's
convolution (its backward pass twice), and the channels stay innermost, where layer norm wants them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def strided_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, *, gelu: bool = False
) -> Tensor:
    """A one-dimensional convolution without padding.

    Args:
        x: ``(B, T, C)`` frames, T at least k.
        weight: ``(O, C, k)``, as ``nn.Conv1d`` has it.
        bias: ``(O,)``, or None.
        stride: s.
        gelu: convolve ``gelu(x)``, of which only ``x`` is kept for the backward pass.

    Returns:
        ``(B, (T - k) // s + 1, O)``, in the dtype of ``x`` or that of autocast.
    """
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = _Convolution.apply(x, weight, bias, stride, gelu)
    return out


def patches(samples: Tensor, kernel: int, stride: int) -> Tensor:
    """What each frame of a convolution over one channel reads: ``(B, N)`` to ``(B, T, k)``."""
    return samples.unfold(1, kernel, stride).contiguous()


def _pieces(x: Tensor, weight: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views ``(B, T', t * C)`` of ``x``, which is contiguous, and their ``(t * C, O)`` weights."""
    batch, time, width = x.shape
    outputs, _, kernel = weight.shape
    count = (time - kernel) // stride + 1
    for first in range(0, kernel, stride):
        taps = min(stride, kernel - first)
        view = x.as_strided(
            (batch, count, taps * width),
            (time * width, stride * width, 1),
            x.storage_offset() + first * width,
        )
        yield view, weight[:, :, first : first + taps].permute(2, 1, 0).reshape(-1, outputs)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, gelu: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.gelu, ctx.biased = stride, gelu, bias is not None
        entered = (F.gelu(x) if gelu else x).contiguous()
        out: Tensor | None = None
        for view, matrix in _pieces(entered, weight, stride):
            matrix = matrix.expand(len(x), -1, -1)
            if out is not None:
                out = out.baddbmm_(view, matrix)
            elif bias is None:
                out = torch.bmm(view, matrix)
            else:
                out = torch.baddbmm(bias, view, matrix)
        assert out is not None
        return out

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        into = ctx.needs_input_grad
        bias_grad = grad.sum((0, 1)) if ctx.biased and into[2] else None
        weight_grad = _weight_grad(x, weight, grad, ctx) if into[1] else None
        x_grad = _input_grad(x, weight, grad, ctx.stride) if into[0] else None
        if x_grad is not None and ctx.gelu:
            x_grad = torch.ops.aten.gelu_backward(x_grad, x)
        return x_grad, weight_grad, bias_grad, None, None


def _weight_grad(x: Tensor, weight: Tensor, grad: Tensor, ctx: Any) -> Tensor:
    entered = (F.gelu(x) if ctx.gelu else x).contiguous()
    outputs, inputs, _ = weight.shape
    parts = []
    for view, _ in _pieces(entered, weight, ctx.stride):
        part = torch.mm(view[0].t(), grad[0])
        for row in range(1, len(grad)):
            part.addmm_(view[row].t(), grad[row])
        parts.append(part.view(-1, inputs, outputs))
    return torch.cat(parts).permute(2, 1, 0)


def _input_grad(x: Tensor, weight: Tensor, grad: Tensor, stride: int) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    written = grad.shape[1] * stride if weight.shape[2] >= stride else 0
    out[:, written:].zero_()
    for number, (view, matrix) in enumerate(_pieces(out, weight, stride)):
        matrix = matrix.t().expand(len(x), -1, -1)
        if number == 0 and written:
            torch.bmm(grad, matrix, out=view)
        else:
            view.baddbmm_(grad, matrix)
    return out
