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

ExtractorNorm = Literal["group", "layer"]

CONVOLUTIONS: tuple[tuple[int, int, int], ...] = (
    (512, 10, 5),
    *((512, 3, 2),) * 4,
    *((512, 2, 2),) * 2,
)
"""``(channels, kernel, stride)`` of wav2vec 2.0: a frame every 20 ms that hears 25 ms (16 kHz)."""


class ChannelNorm(nn.Module):
    """Each channel normalised over the time of its row: group norm of one channel a group.

    Wu and He (2018). Statistics are taken over real frames in fp32 at least, so they do not depend
    on the batch. Released wav2vec 2.0 BASE checkpoints were trained with statistics over padding
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

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: ``(B, C, T)``.
            lengths: ``(B,)`` int64 real frames.

        Returns:
            ``(B, C, T)``; zero in the padding, unless padding counts.
        """
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight, bias = self.weight.to(wide.dtype)[:, None], self.bias.to(wide.dtype)[:, None]
        if self.over_padding:
            variance, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
            return ((wide - mean) * (variance + self.eps).rsqrt() * weight + bias).to(x.dtype)
        padding = torch.arange(x.shape[2], device=x.device) >= lengths[:, None]
        padding = padding[:, None]
        count = lengths.clamp_min(1)[:, None, None].to(wide.dtype)
        wide = wide.masked_fill(padding, 0.0)
        mean = wide.sum(-1, keepdim=True) / count
        centred = (wide - mean).masked_fill(padding, 0.0)
        variance = centred.square().sum(-1, keepdim=True) / count
        out = centred * ((variance + self.eps).rsqrt() * weight) + bias
        return out.masked_fill(padding, 0.0).to(x.dtype)


class WaveExtractor(nn.Module):
    """Strided convolutions over samples, without padding, each followed by GELU.

    ``norm="group"`` (BASE) normalises each channel over time after the first convolution alone;
    ``norm="layer"`` (LARGE) normalises every frame after every convolution (Baevski et al., 2020).

    Args:
        convolutions: ``(channels, kernel, stride)`` of each.
        norm: see above.
        bias: whether convolutions have a bias; LARGE has one, BASE has none.
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
            nn.Conv1d(fan_in, channels, kernel, stride, bias=bias)
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
        x = zero_padding(samples, mask)[:, None]
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            lengths = LengthFormula((self.lengths.layers[number],))(lengths)
            norm = self.norms[number] if number < len(self.norms) else None
            if isinstance(norm, ChannelNorm):
                x = norm(x, lengths)
            elif norm is not None:
                x = norm(x.transpose(1, 2)).transpose(1, 2)
            x = F.gelu(x)
        frames = x.transpose(1, 2)
        mask = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
        return zero_padding(frames, mask), lengths

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
