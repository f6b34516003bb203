"""Convolution by groups with a long kernel, such as gives positions in wav2vec 2.0, "same" padded.

On the CPU it is matrix products: of a group's frames ``(B, T, C)`` the ``TAPS`` that follow each
one are laid side by side, once, and what a piece of as many taps reads is a matrix whose rows lie
one after another. A kernel of k taps takes k / TAPS products, and twice as many in the backward
pass, for which PyTorch's own grouped convolution takes twice as long.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 16
"""Frames laid side by side: more of them are more to copy, fewer are smaller products."""


def grouped_convolution(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Convolve over time; frame ``t`` hears the k frames from ``t - k // 2`` on.

    Args:
        x: ``(B, T, D)`` frames; beyond the ends they count as zero.
        weight: ``(O, D / groups, k)``, as ``nn.Conv1d`` has it.
        bias: ``(O,)``.
        groups: of channels.

    Returns:
        ``(B, T, O)``, in the dtype of ``x`` or that of autocast.
    """
    other = x.device.type != "cpu" or torch.compiler.is_compiling()
    if other or x.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu"):
        half = weight.shape[2] // 2
        out = F.conv1d(x.transpose(1, 2), weight, bias, padding=half, groups=groups)
        return out[:, :, : x.shape[1]].transpose(1, 2)
    convolved: Tensor = _Grouped.apply(x, weight, groups)
    return convolved + bias


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return _convolve(x, weight.unflatten(0, (groups, -1)), weight.shape[2] // 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        kernel, into = weight.shape[2], ctx.needs_input_grad
        x_grad = weight_grad = None
        if into[0]:
            # What frame t gave to t - j + k // 2 by tap j comes back from there.
            back = weight.unflatten(0, (ctx.groups, -1)).transpose(1, 2).flip(3)
            x_grad = _convolve(grad, back, kernel - 1 - kernel // 2)
        if into[1]:
            weight_grad = _weight_grad(x, grad, weight, ctx.groups)
        return x_grad, weight_grad, None


def _convolve(x: Tensor, weight: Tensor, before: int) -> Tensor:
    """``x (B, T, G * C)`` by ``weight (G, O, C, k)``: ``(B, T, G * O)``; tap 0 reads ``before``
    frames earlier."""
    batch, time, _ = x.shape
    groups, outputs, width, kernel = weight.shape
    out = x.new_empty(batch, time, groups, outputs)
    taps = min(TAPS, kernel)
    pieces = -(-kernel // taps)
    # (G, pieces, O, taps * C), taps beyond the kernel zero
    whole = F.pad(weight, (0, pieces * taps - kernel)) if kernel % taps else weight
    matrices = whole.unflatten(3, (pieces, taps)).permute(0, 3, 1, 4, 2).flatten(3)
    for group, matrix in enumerate(matrices.unbind()):
        laid = _laid(x[:, :, group * width : (group + 1) * width], before, taps, pieces)
        part: Tensor | None = None
        for piece, taken in enumerate(matrix.transpose(1, 2).unbind()):
            view = laid[:, piece * taps : piece * taps + time]
            taken = taken.expand(batch, -1, -1)
            part = torch.bmm(view, taken) if part is None else part.baddbmm_(view, taken)
        assert part is not None
        out[:, :, group] = part
    return out.flatten(2)


def _weight_grad(x: Tensor, grad: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Gradient ``(O, C, k)`` of the weight."""
    (batch, time, _), (outputs, width, kernel) = x.shape, weight.shape
    taps = min(TAPS, kernel)
    pieces, each = -(-kernel // taps), outputs // groups
    found = weight.new_empty(groups, pieces, each, taps * width)
    for group in range(groups):
        laid = _laid(x[:, :, group * width : (group + 1) * width], kernel // 2, taps, pieces)
        # Rows of frames, so that products read them as they lie.
        given = grad[:, :, group * each : (group + 1) * each].transpose(1, 2).contiguous()
        for piece in range(pieces):
            view, part = laid[:, piece * taps : piece * taps + time], found[group, piece]
            torch.mm(given[0], view[0], out=part)
            for row in range(1, batch):
                part.addmm_(given[row], view[row])
    by_tap = found.unflatten(3, (taps, width)).permute(0, 2, 4, 1, 3).flatten(3)
    return by_tap[..., :kernel].reshape(weight.shape)


def _laid(x: Tensor, before: int, taps: int, pieces: int) -> Tensor:
    """From each frame of ``x (B, T, C)`` on ``taps`` frames side by side.

    ``(B, T + (pieces - 1) * taps, taps * C)``; the first rows begin ``before`` frames before ``x``.
    """
    batch, time, width = x.shape
    rows = time + (pieces - 1) * taps
    padded = x.new_zeros(batch, rows + taps - 1, width)
    padded[:, before : before + time] = x
    return padded.as_strided((batch, rows, taps * width), (padded.stride(0), width, 1)).contiguous()
