"""Frames from samples: the convolutional feature extractor of wav2vec 2.0."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stk.errors import StkError
from stk.modules.lengths import LengthFormula
from stk.modules.norm import LayerNorm
from stk.modules.rows import zero_padding
from stk.modules.strided_convolution import patches, strided_convolution

ExtractorNorm = Literal["group", "layer"]

CONVOLUTIONS: tuple[tuple[int, int, int], ...] = (
    (512, 10, 5),
    *((512, 3, 2),) * 4,
    *((512, 2, 2),) * 2,
)
"""``(channels, kernel, stride)`` of wav2vec 2.0: a frame every 20 ms that hears 25 ms (16 kHz)."""


class ChannelNorm(nn.Module):
    """Each channel normalised over the time of its row: group norm of one channel a group.

    Wu and He (2018). Statistics are taken over real frames, in fp64, so they do not depend on the
    batch. Released wav2vec 2.0 BASE checkpoints were trained with statistics over padding
    too; ``over_padding`` reproduces that, and a row's output then depends on its batch.

    Args:
        channels: of the input.
        over_padding: whether padded frames count in the statistics.
        eps: added to variances.
    """

    def __init__(self, channels: int, *, over_padding: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.over_padding, self.eps = over_padding, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def fold(self, weight: Tensor, read: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Put the norm into the convolution over one channel that comes before it.

        Mean and variance of a channel follow from those of the k numbers that the convolution
        reads, so its frames need not be looked at, nor held twice.

        Args:
            weight: ``(C, 1, k)`` of the convolution, which has no bias.
            read: ``(B, T, k)``, see :func:`~stk.modules.strided_convolution.patches`.
            lengths: ``(B,)`` int64 real frames.

        Returns:
            For every clip a matrix ``(B, k, C)`` and a shift ``(B, 1, C)``, in the dtype of the
            weights: ``read @ matrix + shift`` is the normalised frame.
        """
        mean, covariance = self._moments(read, lengths)
        wide = weight[:, 0].to(mean.dtype)
        centre = mean @ wide.t()
        variance = ((wide @ covariance) * wide).sum(-1)
        scale = (variance + self.eps).rsqrt() * self.weight.to(mean.dtype)
        shift = self.bias.to(mean.dtype) - centre * scale
        matrix = wide.t() * scale[:, None]
        return matrix.to(weight.dtype), shift[:, None].to(weight.dtype)

    @torch.no_grad()
    def _moments(self, read: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``(B, k)`` and covariance ``(B, k, k)`` in fp64, since high-pass filters cancel."""
        frames, wide = read.shape[1], read.double()
        if self.over_padding:
            lengths = torch.full_like(lengths, frames)
        real = torch.arange(frames, device=read.device) < lengths[:, None]
        count = lengths.clamp_min(1)[:, None].double()
        mean = (wide * real[:, :, None]).sum(1) / count
        centred = (wide - mean[:, None]) * real[:, :, None]
        return mean, centred.transpose(1, 2) @ centred / count[:, :, None]


class WaveExtractor(nn.Module):
    """Strided convolutions over samples, without padding, each followed by GELU.

    ``norm="group"`` (BASE) normalises each channel over time after the first convolution alone;
    ``norm="layer"`` (LARGE) normalises every frame after every convolution (Baevski et al., 2020).

    Args:
        convolutions: ``(channels, kernel, stride)`` of each.
        norm: see above.
        bias: whether convolutions have a bias; LARGE has one, BASE has none. Before a ChannelNorm
            there is none, since it would cancel.
        over_padding: see :class:`ChannelNorm`; ``group`` alone.

    Attributes:
        lengths: frames as a function of samples.
        width: channels of the last convolution.
        field: samples that a frame hears, the shortest clip there can be.
    """

    def __init__(
        self,
        convolutions: tuple[tuple[int, int, int], ...] = CONVOLUTIONS,
        *,
        norm: ExtractorNorm = "group",
        bias: bool = False,
        over_padding: bool = False,
    ) -> None:
        super().__init__()
        inputs = (1, *(channels for channels, _, _ in convolutions))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(
                fan_in, channels, kernel, stride, bias=bias and (fan_in > 1 or norm == "layer")
            )
            for fan_in, (channels, kernel, stride) in zip(inputs, convolutions, strict=False)
        )
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            nn.init.kaiming_normal_(convolution.weight)
        self.norms = nn.ModuleList(
            [ChannelNorm(inputs[1], over_padding=over_padding)]
            if norm == "group"
            else [LayerNorm(channels) for channels in inputs[1:]]
        )
        self.lengths = LengthFormula(
            tuple((kernel, stride, 0) for _, kernel, stride in convolutions)
        )
        self.width, self.field = inputs[-1], 1
        for _, kernel, stride in reversed(convolutions):
            self.field = (self.field - 1) * stride + kernel

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames of ``samples (B, N)``, whose padding may hold anything.

        Args:
            samples: at the rate the model is for.
            lengths: ``(B,)`` int64 real samples.

        Returns:
            Frames ``(B, T, C)``, zero in the padding, and their ``(B,)`` lengths.

        Raises:
            StkError: a clip is shorter than the receptive field. On a GPU only the longest one is
                looked at, since reading lengths would wait for the device; batches for training
                and decoding are checked when they are made.
        """
        self.check(samples.shape[1])
        if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
            self.check(int(lengths.min()))
        mask = torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]
        x = self._first(zero_padding(samples, mask), lengths)
        for number in range(1, len(self.convolutions)):
            weight, bias, stride = self._layer(number)
            x = strided_convolution(x, weight, bias, stride, gelu=True)
            if number < len(self.norms):
                x = self.norms[number](x)
        lengths = self.lengths(lengths)
        mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return zero_padding(F.gelu(x), mask), lengths

    def _layer(self, number: int) -> tuple[Tensor, Tensor | None, int]:
        convolution = self.convolutions[number]
        assert isinstance(convolution, nn.Conv1d)
        return convolution.weight, convolution.bias, convolution.stride[0]

    def _first(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """The first convolution with its norm, ``(B, T, C)``; GELU comes with the second.

        Frames that are padding need not be zero: no real frame of a later layer reads one.
        """
        weight, bias, stride = self._layer(0)
        read, norm = patches(samples, weight.shape[2], stride), self.norms[0]
        if not isinstance(norm, ChannelNorm):
            return norm(F.linear(read, weight[:, 0], bias))
        lengths = LengthFormula((self.lengths.layers[0],))(lengths)
        matrix, shift = norm.fold(weight, read, lengths)
        return torch.baddbmm(shift, read, matrix)

    def check(self, samples: int) -> None:
        """Raise unless a clip of so many samples gives a frame.

        Raises:
            StkError: it is too short.
        """
        if samples < self.field:
            raise StkError(
                f"a clip of {samples} samples is shorter than the receptive field of "
                f"{self.field} samples",
                mend="drop the row, or set the stream's min_frames",
            )
