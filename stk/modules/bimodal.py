"""One encoder for sound and text: what enters differs, the stack above is the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stk.modules.dropout import dropout
from stk.modules.embedding import TokenEmbedding
from stk.modules.positions import SinusoidalPositions
from stk.modules.rows import Rows
from stk.modules.subsampling import Conv1dSubsampler
from stk.modules.transformer import EncoderStack, LayerShape
from stk.modules.wave_encoder import WaveEncoder, WaveShape


class BimodalEncoder(nn.Module):
    """Samples through a wave encoder and a subsampler, or tokens through an embedding; then layers.

    Args:
        wave: of the wave encoder.
        shape: of the shared layers.
        layers: how many of them.
        embedding: of tokens, which a decoder may share.
        channels: of the subsampler's inner convolution, before gating.
        kernels: of the subsampler; each halves the number of states.
        audio_tag: whether a learned vector in front of sound says that it is sound; it and the
            first state then share position 0 (XSTNet, Ye et al., 2021).
        audio_positions: whether positions are added to what comes from sound.
    """

    def __init__(
        self,
        wave: WaveShape,
        shape: LayerShape,
        layers: int,
        embedding: TokenEmbedding,
        *,
        channels: int = 1024,
        kernels: tuple[int, ...] = (5, 5),
        audio_tag: bool = False,
        audio_positions: bool = True,
    ) -> None:
        super().__init__()
        self.wave = WaveEncoder(wave)
        self.subsampler = Conv1dSubsampler(
            wave.width, shape.width, channels=channels, kernels=kernels
        )
        self.embedding = embedding
        self.positions = SinusoidalPositions(shape.width)
        self.scale, self.dropout = shape.width**0.5, shape.dropout
        self.audio_positions = audio_positions
        self.audio_tag: nn.Parameter | None = None
        if audio_tag:
            self.audio_tag = nn.Parameter(torch.empty(shape.width))
            nn.init.normal_(self.audio_tag, std=shape.width**-0.5)
        self.stack = EncoderStack(shape, layers)

    def hear(
        self, samples: Tensor, lengths: Tensor, masked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """States ``(B, T, D)`` and lengths that enter the stack for ``samples (B, N)``.

        ``masked`` is that of :class:`stk.modules.wave_encoder.WaveEncoder`.
        """
        states, lengths = self.wave(samples, lengths, masked)
        x, lengths = self.subsampler(states, lengths)
        x = x * self.scale
        if self.audio_positions:
            x = x + self.positions(x.shape[1]).to(x.dtype)
        if self.audio_tag is None:
            return x, lengths
        tag = self.audio_tag * self.scale + self.positions(1)[0]
        tag = tag.to(x.dtype).expand(len(x), 1, -1)
        return torch.cat([tag, x], 1), lengths + 1

    def read(self, tokens: Tensor) -> Tensor:
        """Vectors ``(B, S, D)`` that enter the stack for ``tokens (B, S)``."""
        x = self.embedding(tokens)
        return x + self.positions(tokens.shape[1]).to(x.dtype)

    def forward(
        self, data: Tensor, lengths: Tensor, masked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode float samples ``(B, N)``, at will ``masked``, or int64 tokens ``(B, S)``.

        Returns:
            States ``(B, T, D)``, zero in the padding, and their ``(B,)`` lengths.

        Raises:
            StkError: a clip is shorter than the receptive field.
        """
        if data.is_floating_point():
            x, lengths = self.hear(data, lengths, masked)
        else:
            x = self.read(data)
        rows = Rows(lengths, x.shape[1])
        x = dropout(rows.pack(x), self.dropout, self.training)
        return rows.clean(self.stack(x, rows)[0]), lengths
