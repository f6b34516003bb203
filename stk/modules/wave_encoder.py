"""The encoder of wav2vec 2.0 (Baevski et al., 2020): samples to states, with learned masks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stk.modules.dropout import dropout
from stk.modules.gradient import scale_gradient
from stk.modules.grouped_convolution import grouped_convolution
from stk.modules.linear import linear
from stk.modules.norm import LayerNorm
from stk.modules.rows import Rows
from stk.modules.transformer import EncoderStack, LayerShape, Norm
from stk.modules.wave_features import CONVOLUTIONS, ExtractorNorm, WaveExtractor


@dataclass(frozen=True, kw_only=True)
class WaveShape:
    """Sizes of a :class:`WaveEncoder`; the defaults are those of BASE.

    Attributes:
        layers: of the Transformer, and ``width``, ``ffn``, ``heads`` of each.
        norm: ``post`` in BASE, ``pre`` in LARGE.
        extractor_norm: see :class:`stk.modules.wave_features.WaveExtractor`.
        norm_over_padding: reproduces released BASE checkpoints; a clip's states then depend on
            its batch.
        convolutions: ``(channels, kernel, stride)`` of the extractor.
        dropout: on the residual stream and after the positional convolution.
        attention_dropout, activation_dropout: inside the layers.
        input_dropout: on what enters the Transformer, before masks.
        layer_drop: probability of leaving a whole layer out in training (Fan et al., 2020).
        gradient_scale: factor on the gradient that reaches the extractor.
        position_kernel, position_groups: of the convolution that gives positions.
    """

    layers: int = 12
    width: int = 768
    ffn: int = 3072
    heads: int = 12
    norm: Norm = "post"
    extractor_norm: ExtractorNorm = "group"
    norm_over_padding: bool = False
    convolutions: tuple[tuple[int, int, int], ...] = CONVOLUTIONS
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    input_dropout: float = 0.1
    layer_drop: float = 0.05
    gradient_scale: float = 0.1
    position_kernel: int = 128
    position_groups: int = 16

    def __post_init__(self) -> None:
        _ = self.shape  # which looks at its own sizes and rates
        if min(self.layers, self.position_kernel, self.position_groups) < 1:
            raise ValueError("layers, position_kernel, position_groups must be at least 1")
        if self.width % self.position_groups:
            raise ValueError("width must be a multiple of position_groups")
        if not self.convolutions or min(min(layer) for layer in self.convolutions) < 1:
            raise ValueError("convolutions: at least one (channels, kernel, stride), all above 0")
        for name in ("input_dropout", "layer_drop"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1)")
        if self.gradient_scale < 0.0:
            raise ValueError("gradient_scale must be at least 0")
        if self.norm_over_padding and self.extractor_norm != "group":
            raise ValueError("norm_over_padding is of extractor_norm: group")

    @property
    def shape(self) -> LayerShape:
        """The shape of the Transformer's layers."""
        return LayerShape(
            width=self.width,
            ffn=self.ffn,
            heads=self.heads,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            norm=self.norm,
            activation="gelu",
        )

    @property
    def normalized(self) -> bool:
        """Whether clips must have zero mean and unit variance: with layer norm in every block."""
        return self.extractor_norm == "layer"


LARGE = WaveShape(
    layers=24,
    width=1024,
    ffn=4096,
    heads=16,
    norm="pre",
    extractor_norm="layer",
    dropout=0.0,
    attention_dropout=0.0,
    input_dropout=0.0,
    layer_drop=0.0,
    gradient_scale=1.0,
)
"""The sizes of LARGE."""


class PositionalConvolution(nn.Module):
    """A grouped convolution over time whose output tells where a frame stands.

    The weight is ``weight_v`` with the norm ``weight_g`` for every tap of the kernel (weight
    normalisation, Salimans and Kingma, 2016); GELU follows.

    Args:
        width: of input and output.
        kernel: taps.
        groups: of channels.
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, kernel))
        nn.init.normal_(self.weight_v, std=(4.0 / (kernel * width)) ** 0.5)
        norm = self.weight_v.detach().square().sum((0, 1), keepdim=True).sqrt()
        self.weight_g = nn.Parameter(norm)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, D)``, zero in the padding, to ``(B, T, D)``."""
        norm = self.weight_v.square().sum((0, 1), keepdim=True).sqrt()
        weight = self.weight_v * (self.weight_g / norm)
        return F.gelu(grouped_convolution(x, weight, self.bias, self.groups))


class WaveEncoder(nn.Module):
    """Convolutions, projection, positions by convolution, Transformer.

    Args:
        shape: sizes.

    Attributes:
        shape: what it was built from.
    """

    def __init__(self, shape: WaveShape) -> None:
        super().__init__()
        self.shape = shape
        self.dropout, self.input_dropout = shape.dropout, shape.input_dropout
        self.extractor = WaveExtractor(
            shape.convolutions,
            norm=shape.extractor_norm,
            bias=shape.extractor_norm == "layer",
            over_padding=shape.norm_over_padding,
        )
        self.feature_norm = LayerNorm(self.extractor.width)
        self.projection = linear(self.extractor.width, shape.width)
        self.mask_vector = nn.Parameter(torch.empty(shape.width).uniform_())
        self.positions = PositionalConvolution(
            shape.width, shape.position_kernel, shape.position_groups
        )
        self.input_norm = LayerNorm(shape.width) if shape.norm == "post" else None
        self.stack = EncoderStack(shape.shape, shape.layers, layer_drop=shape.layer_drop)

    def features(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames ``(B, T, C)`` before normalisation, and lengths; see :class:`WaveExtractor`."""
        frames, lengths = self.extractor(samples, lengths)
        return scale_gradient(frames, self.shape.gradient_scale), lengths

    def contextualize(self, normed: Tensor, lengths: Tensor, masked: Tensor | None) -> Tensor:
        """States ``(B, T, D)``, zero in the padding, of normalised frames.

        Args:
            normed: ``(B, T, C)``, what ``feature_norm`` gives.
            lengths: ``(B,)`` int64 frames.
            masked: ``(B, T)`` boolean, True where the learned vector replaces a frame; None: none.
        """
        rows = Rows(lengths, normed.shape[1])
        x = dropout(self.projection(normed), self.input_dropout, self.training)
        if masked is not None:
            x = torch.where(masked[:, :, None], self.mask_vector.to(x.dtype), x)
        x = rows.clean(rows.pack(x))
        x = x + self.positions(x)
        if self.input_norm is not None:
            x = self.input_norm(x)
        x = dropout(rows.pack(x), self.dropout, self.training)
        return rows.clean(self.stack(x, rows)[0])

    def forward(
        self, samples: Tensor, lengths: Tensor, masked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode ``samples (B, N)``.

        Args:
            samples: float, at 16 kHz for released weights; padding may hold anything.
            lengths: ``(B,)`` int64 samples.
            masked: as in :meth:`contextualize`.

        Returns:
            States ``(B, T, D)``, zero in the padding, and their lengths.

        Raises:
            StkError: a clip is shorter than the receptive field.
        """
        frames, lengths = self.features(samples, lengths)
        return self.contextualize(self.feature_norm(frames), lengths, masked), lengths
