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
from torch.autograd.function import once_differentiable


def strided_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    *,
    gelu: bool = False,
    gated: bool = False,
) -> Tensor:
    """A one-dimensional convolution without padding.

    Where T is a multiple of the stride, the rows of a batch are read as one long row, so that there
    is one product instead of B; what lies across two rows is computed and not used.

    Args:
        x: ``(B, T, C)`` frames, T at least k.
        weight: ``(O, C, k)``, as ``nn.Conv1d`` has it.
        bias: ``(O,)``, or None.
        stride: s.
        gelu: convolve ``gelu(x)``, of which only ``x`` is kept for the backward pass.
        gated: the first half of the outputs times the sigmoid of the second (gated linear units,
            Dauphin et al., 2017); O is even.

    Returns:
        ``(B, (T - k) // s + 1, O)``, or ``O / 2`` of them where gated, in the dtype of ``x`` or
        that of autocast.

    Raises:
        RuntimeError: a gradient of the gradient is asked for.
    """
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = _Convolution.apply(x, weight, bias, stride, gelu, gated)
    return out


def patches(samples: Tensor, kernel: int, stride: int) -> Tensor:
    """What each frame of a convolution over one channel reads: ``(B, N)`` to ``(B, T, k)``."""
    return samples.unfold(1, kernel, stride).contiguous()


def _views(x: Tensor, kernel: int, stride: int) -> Iterator[Tensor]:
    """What each piece of a kernel reads: views ``(B, T', t * C)`` of ``x``, which is contiguous."""
    batch, time, width = x.shape
    count = (time - kernel) // stride + 1
    for first in range(0, kernel, stride):
        yield x.as_strided(
            (batch, count, min(stride, kernel - first) * width),
            (time * width, stride * width, 1),
            x.storage_offset() + first * width,
        )


def _pieces(x: Tensor, weight: Tensor, stride: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of ``x``, see :func:`_views`, and their ``(t * C, O)`` weights."""
    views = _views(x, weight.shape[2], stride)
    for view, part in zip(views, weight.split(stride, 2), strict=True):
        # A row of the weights at a time: the transposition is left to the matrix product.
        yield view, part.transpose(1, 2).reshape(len(weight), -1).t()


class _Joined:
    """Rows ``(B, T, C)`` as one of ``B * T``, and what is convolved of it as rows again."""

    def __init__(self, x: Tensor, kernel: int, stride: int) -> None:
        self.batch, self.time, self.width = x.shape
        self.holds = self.batch > 1 and self.time % stride == 0
        self.each = self.time // stride
        self.real = (self.time - kernel) // stride + 1
        self.total = (self.batch * self.time - kernel) // stride + 1

    def join(self, x: Tensor) -> Tensor:
        """``(B, T, C)``, contiguous, to ``(1, B * T, C)``."""
        return x.view(1, -1, self.width) if self.holds else x

    def split(self, out: Tensor) -> Tensor:
        """A view ``(B, T', O)`` of ``out (1, total, O)``."""
        if not self.holds:
            return out
        width = out.shape[2]
        # Not a reshape: the last row may lack what would lie beyond the end.
        return out.as_strided((self.batch, self.real, width), (self.each * width, width, 1))

    def join_grad(self, grad: Tensor, convolved: Tensor | None) -> Tensor:
        """The gradient ``(B, T', O)`` as ``(1, total, O)``, zero across two rows.

        Where the outputs were gated, ``convolved (B, T', O)`` is what they were made of, and
        ``grad (B, T', O / 2)`` that of the gated ones.
        """
        if not self.holds:
            return grad.contiguous() if convolved is None else _ungate(grad, convolved)
        width = grad.shape[2] if convolved is None else convolved.shape[2]
        joined = grad.new_empty(1, self.total, width)
        shape, strides = (self.batch - 1, self.each - self.real), (self.each * width, width, 1)
        joined.as_strided((*shape, width), strides, self.real * width).zero_()
        if convolved is None:
            self.split(joined).copy_(grad)
        else:
            _ungate(grad, convolved, out=self.split(joined))
        return joined


def _ungate(grad: Tensor, convolved: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient of what was gated, ``(B, T', O)``, from that of the gated outputs."""
    out = torch.empty_like(convolved) if out is None else out
    torch.ops.aten.glu_backward.grad_input(grad, convolved, 2, grad_input=out)
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        gelu: bool,
        gated: bool,
    ) -> Tensor:
        ctx.stride, ctx.gelu, ctx.biased = stride, gelu, bias is not None
        ctx.joined = _Joined(x, weight.shape[2], stride)
        entered = ctx.joined.join((F.gelu(x) if gelu else x).contiguous())
        out: Tensor | None = None
        for view, matrix in _pieces(entered, weight, stride):
            matrix = matrix.expand(len(entered), -1, -1)
            if out is not None:
                out = out.baddbmm_(view, matrix)
            elif bias is None:
                out = torch.bmm(view, matrix)
            else:
                out = torch.baddbmm(bias, view, matrix)
        assert out is not None
        split: Tensor = ctx.joined.split(out)
        ctx.save_for_backward(x, weight, split if gated else None)
        return F.glu(split, 2) if gated else split

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        x, weight, convolved = ctx.saved_tensors
        grad = ctx.joined.join_grad(grad, convolved)
        into = ctx.needs_input_grad
        bias_grad = grad.sum((0, 1)) if ctx.biased and into[2] else None
        weight_grad = x_grad = None
        entered = (F.gelu(x) if ctx.gelu else x).contiguous() if into[1] else None
        if entered is not None:
            weight_grad = _weight_grad(entered, weight, grad, ctx)
        if into[0]:
            # Fresh memory costs as much as what is computed: gelu(x) gives up its own.
            fresh = entered is None or not ctx.gelu
            out = torch.empty_like(x, memory_format=torch.contiguous_format) if fresh else entered
            assert out is not None
            x_grad = _input_grad(out, weight, grad, ctx)
            if ctx.gelu:
                torch.ops.aten.gelu_backward.grad_input(x_grad, x, grad_input=x_grad)
        return x_grad, weight_grad, bias_grad, None, None, None


def _weight_grad(entered: Tensor, weight: Tensor, grad: Tensor, ctx: Any) -> Tensor:
    outputs, inputs, kernel = weight.shape
    if not len(grad):
        return torch.zeros_like(weight)
    parts = []
    for view in _views(ctx.joined.join(entered), kernel, ctx.stride):
        part = torch.mm(grad[0].t(), view[0])
        for row in range(1, len(grad)):
            part.addmm_(grad[row].t(), view[row])
        parts.append(part.view(outputs, -1, inputs))
    return torch.cat(parts, 1).transpose(1, 2)


def _input_grad(out: Tensor, weight: Tensor, grad: Tensor, ctx: Any) -> Tensor:
    """The gradient of what is convolved, written to ``out``, which is contiguous."""
    joined = ctx.joined.join(out)
    written = grad.shape[1] * ctx.stride if weight.shape[2] >= ctx.stride else 0
    joined[:, written:].zero_()
    for number, (view, matrix) in enumerate(_pieces(joined, weight, ctx.stride)):
        matrix = matrix.t().expand(len(joined), -1, -1)
        if number == 0 and written:
            torch.bmm(grad, matrix, out=view)
        else:
            view.baddbmm_(grad, matrix)
    return out
