"""Subsamplers: frames to fewer states, by convolutions or by stacking."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stk.modules.lengths import LengthFormula
from stk.modules.linear import linear
from stk.modules.norm import LayerNorm
from stk.modules.rows import zero_padding
from stk.modules.strided_convolution import strided_convolution


def _without_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """``x (B, C, T, ...)`` with zeros beyond each row's length."""
    mask = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
    return zero_padding(x.transpose(1, 2), mask).transpose(1, 2)


class Conv1dSubsampler(nn.Module):
    """Strided convolutions over time with gated linear units (Synnaeve et al., 2019).

    Every layer halves the number of frames, rounding up. Padding is zeroed before each of them,
    so what surrounds a clip in its batch never reaches it.

    Args:
        inputs: features of a frame.
        width: of the states.
        channels: of the inner convolutions, before gating.
        kernels: width of each convolution, odd.

    Attributes:
        lengths: states as a function of frames.
    """

    def __init__(
        self, inputs: int, width: int, *, channels: int = 1024, kernels: tuple[int, ...] = (5, 5)
    ) -> None:
        super().__init__()
        if any(kernel % 2 == 0 for kernel in kernels):
            raise ValueError(f"kernels {kernels} must be odd")
        last = len(kernels) - 1
        self.convolutions = nn.ModuleList(
            nn.Conv1d(
                inputs if i == 0 else channels // 2,
                2 * width if i == last else channels,
                kernel,
                stride=2,
                padding=kernel // 2,
            )
            for i, kernel in enumerate(kernels)
        )
        self.lengths = LengthFormula(tuple((kernel, 2, kernel // 2) for kernel in kernels))

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample.

        Args:
            frames: ``(B, T, F)``; padding may hold anything.
            lengths: ``(B,)`` int64 real frames.

        Returns:
            ``(B, T', D)`` and its ``(B,)`` lengths; padding is not zero.
        """
        x = frames
        for convolution, layer in zip(self.convolutions, self.lengths.layers, strict=True):
            assert isinstance(convolution, nn.Conv1d)
            mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            x = _gated(convolution, zero_padding(x, mask))
            lengths = LengthFormula((layer,))(lengths)
        return x, lengths


def _gated(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolve ``x (B, T, C)`` over time and gate it, the way that is faster on its device."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        out: Tensor = convolution(x.transpose(1, 2))
        return F.glu(out.transpose(1, 2), dim=2)
    stride, padding = convolution.stride[0], convolution.padding[0]
    assert isinstance(padding, int)
    # Up to a multiple of the stride; no further output fits into what that adds.
    beyond = -(x.shape[1] + 2 * padding) % stride
    x = F.pad(x, (0, 0, padding, padding + beyond))
    return strided_convolution(x, convolution.weight, convolution.bias, stride, gated=True)


class Conv2dSubsampler(nn.Module):
    """Two 3x3 convolutions of stride 2 over time and frequency, then a linear layer.

    Each convolution is followed by a layer norm over channels and a rectifier (as in Dong et al.,
    2018, and Zhao et al., 2021). Padding is zeroed before each of them.

    Args:
        inputs: features of a frame.
        width: of the states.
        channels: of both convolutions.

    Attributes:
        lengths: states as a function of frames.
    """

    def __init__(self, inputs: int, width: int, *, channels: int = 256) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(fan_in, channels, 3, stride=2, padding=1) for fan_in in (1, channels)
        )
        self.norms = nn.ModuleList(LayerNorm(channels) for _ in range(2))
        self.lengths = LengthFormula(((3, 2, 1),) * 2)
        self.output = linear(self.lengths(inputs) * channels, width)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample: ``frames (B, T, F)`` and lengths ``(B,)`` to ``(B, T', D)`` and lengths."""
        x = frames[:, None]
        layers = zip(self.convolutions, self.norms, self.lengths.layers, strict=True)
        for convolution, norm, layer in layers:
            x = convolution(_without_padding(x, lengths))
            x = F.relu(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            lengths = LengthFormula((layer,))(lengths)
        return self.output(x.permute(0, 2, 3, 1).flatten(2)), lengths


class StackSubsampler(nn.Module):
    """Neighbouring frames side by side, every ``hop`` frames, then a linear layer.

    State ``i`` sees frames ``hop * i .. hop * i + count - 1``; beyond the clip's end they are zero.

    Args:
        inputs: features of a frame.
        width: of the states.
        count: frames side by side.
        hop: frames from one state to the next.

    Attributes:
        lengths: states as a function of frames: ``ceil(frames / hop)``.
    """

    def __init__(self, inputs: int, width: int, *, count: int = 6, hop: int = 3) -> None:
        super().__init__()
        self.count, self.hop = count, hop
        self.lengths = LengthFormula(((1, hop, 0),))
        self.output = linear(inputs * count, width)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample: ``frames (B, T, F)`` and lengths ``(B,)`` to ``(B, T', D)`` and lengths."""
        mask = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
        x = F.pad(zero_padding(frames, mask), (0, 0, 0, self.count - 1))
        stacked = x.unfold(1, self.count, self.hop).transpose(2, 3).flatten(2)
        return self.output(stacked), self.lengths(lengths)
