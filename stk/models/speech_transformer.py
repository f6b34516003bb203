"""The Transformer for speech: convolutional subsampling, then as for text.

Presets follow the S2T Transformer of Wang et al. (2020, fairseq S2T); ``subsampler: conv2d`` is
that of Dong et al. (2018) as used by Zhao et al. (2021, NeurST).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.encoder_decoder import EncoderDecoder, TransformerConfig, run_stack, vocab_size
from stk.models.outputs import Encoded
from stk.modules.decoder import Decoder
from stk.modules.dropout import dropout
from stk.modules.positions import positions
from stk.modules.rows import Rows
from stk.modules.subsampling import Conv1dSubsampler, Conv2dSubsampler, StackSubsampler
from stk.modules.transformer import EncoderStack


@dataclass(frozen=True, kw_only=True)
class SpeechTransformerConfig(TransformerConfig):
    """Configuration of :class:`SpeechTransformer`.

    ``subsampler`` quarters the frames: ``conv1d`` with gated units (``conv_channels`` default
    1024, ``conv_kernels`` one per halving) or ``conv2d`` (default 256 channels). ``stack`` puts
    ``stack_frames`` frames side by side, every ``stack_hop`` frames.
    """

    subsampler: Literal["conv1d", "conv2d", "stack"] = "conv1d"
    conv_channels: int | None = None
    conv_kernels: tuple[int, ...] = (5, 5)
    stack_frames: int = 6
    stack_hop: int = 3
    tie: Literal["none", "decoder"] = "decoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.conv_kernels or any(kernel % 2 == 0 for kernel in self.conv_kernels):
            raise ValueError("conv_kernels must be odd, and at least one")
        if self.conv_channels is not None and (self.conv_channels < 2 or self.conv_channels % 2):
            raise ValueError("conv_channels must be even")
        if not 1 <= self.stack_hop <= self.stack_frames:
            raise ValueError("stack_hop must lie between 1 and stack_frames")


class SpeechEncoder(nn.Module):
    """Subsampler, positions, encoder layers."""

    def __init__(self, config: SpeechTransformerConfig, feature_dim: int) -> None:
        super().__init__()
        self.subsampler: Conv1dSubsampler | Conv2dSubsampler | StackSubsampler
        if config.subsampler == "stack":
            self.subsampler = StackSubsampler(
                feature_dim, config.width, count=config.stack_frames, hop=config.stack_hop
            )
        elif config.subsampler == "conv1d":
            self.subsampler = Conv1dSubsampler(
                feature_dim,
                config.width,
                channels=config.conv_channels or 1024,
                kernels=config.conv_kernels,
            )
        else:
            self.subsampler = Conv2dSubsampler(
                feature_dim, config.width, channels=config.conv_channels or 256
            )
        self.positions = positions(config.positions, config.width, config.max_positions)
        self.scale, self.dropout = config.width**0.5, config.dropout
        self.stack = EncoderStack(config.shape, config.encoder_layers)

    def forward(
        self, frames: Tensor, lengths: Tensor, tap: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode ``frames (B, T, F)``.

        Args:
            frames: features; padding may hold anything.
            lengths: ``(B,)`` int64 real frames.
            tap: a layer, counted from 1, whose output is wanted too.

        Returns:
            States ``(B, T', D)``, their lengths ``(B,)``, and the states of layer ``tap`` or
            None; zero in the padding.
        """
        x, lengths = self.subsampler(frames, lengths)
        rows = Rows(lengths, x.shape[1])
        x = x * self.scale + self.positions(x.shape[1]).to(x.dtype)
        x = dropout(rows.pack(x), self.dropout, self.training)
        states, tapped = run_stack(self.stack, x, rows, tap)
        return states, lengths, tapped


class SpeechTransformer(EncoderDecoder):
    """Frames to text. Views: ``target_view`` (and ``ctc_view`` with a CTC head).

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: features of a frame.

    Raises:
        StkError: a view is missing, or there are no features.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: {
            "encoder_layers": encoder,
            "decoder_layers": decoder,
            "width": width,
            "ffn": ffn,
            "heads": heads,
            "dropout": dropout,
        }
        for name, encoder, decoder, width, ffn, heads, dropout in (
            ("xs", 6, 3, 256, 1024, 4, 0.3),
            ("s", 12, 6, 256, 2048, 4, 0.1),
            ("m", 12, 6, 512, 2048, 8, 0.15),
            ("l", 12, 6, 1024, 4096, 16, 0.2),
        )
    }

    encoder: SpeechEncoder
    config: SpeechTransformerConfig

    def __init__(
        self,
        config: SpeechTransformerConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None,
    ) -> None:
        super().__init__(config)
        if feature_dim is None:
            raise StkError("speech_transformer reads sound", mend="add the section features")
        self.encoder = SpeechEncoder(config, feature_dim)
        self.decoder = Decoder(
            config.shape,
            config.decoder_layers,
            vocab_size(vocab_sizes, config.target_view),
            position_kind=config.positions,
            position_limit=config.max_positions,
            tied=config.tie != "none",
        )
        if config.ctc_layer is not None:
            size = vocab_size(vocab_sizes, config.ctc_view)
            self.add_ctc(size, self.encoder.subsampler.lengths)

    def encode(self, source: Source) -> Encoded:
        """Encode ``source.data (B, T, F)`` frames.

        Raises:
            ValueError: the source is text, or holds samples instead of frames.
        """
        if source.is_text or source.data.dim() != 3:
            raise ValueError("speech_transformer encodes frames (B, T, F)")
        tap = self.config.ctc_layer
        states, lengths, tapped = self.encoder(source.data, source.lengths, tap)
        return self.with_ctc(states, lengths, tapped)
