"""What models that read both sound and text share: one encoder, one table of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder, TransformerConfig, vocab_size
from stk.models.outputs import Encoded
from stk.models.wave import need_waveform, wave_shape
from stk.modules.bimodal import BimodalEncoder
from stk.modules.decoder import Decoder


@dataclass(frozen=True, kw_only=True)
class BimodalConfig(TransformerConfig):
    """What models for sound and text have in common.

    ``wave`` is the wave encoder: at will a ``preset`` (``base``, ``large``, ``tiny``), and keys of
    :class:`stk.modules.wave_encoder.WaveShape`. Two convolutions of ``conv_kernels`` quarter its
    states. Source and target texts share the table of ``target_view``: streams over text need
    ``source_view`` to name the same vocabulary.
    """

    wave: dict[str, Any] = field(default_factory=lambda: {"preset": "base"})
    conv_channels: int = 1024
    conv_kernels: tuple[int, ...] = (5, 5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ctc_layer is not None:
            raise ValueError("ctc_layer: this model has no CTC head")
        if self.positions != "sinusoidal":
            raise ValueError("positions: this model has sinusoidal ones")
        if not self.conv_kernels or any(kernel % 2 == 0 for kernel in self.conv_kernels):
            raise ValueError("conv_kernels must be odd, and at least one")
        if self.conv_channels < 2 or self.conv_channels % 2:
            raise ValueError("conv_channels must be even")


SIZES: dict[str, dict[str, Any]] = {
    "base": {
        "encoder_layers": 6,
        "decoder_layers": 6,
        "width": 512,
        "ffn": 2048,
        "heads": 8,
        "wave": {"preset": "base"},
    },
    "tiny": {
        "encoder_layers": 2,
        "decoder_layers": 2,
        "width": 128,
        "ffn": 512,
        "heads": 4,
        "conv_channels": 256,
        "wave": {"preset": "tiny"},
    },
}


class BimodalModel(EncoderDecoder):
    """Base of models that encode sound or text with one encoder and share one table of tokens.

    Components, by prefix: ``encoder.wave.`` (what ``encoder.`` is in wav2vec2),
    ``encoder.subsampler.``, ``encoder.stack.``, ``decoder.``. The embedding is the decoder's.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens; ``target_view`` is used.
        feature_dim: 1; None in runs over text alone, where the wave encoder is built all the same.
        audio_tag: see :class:`BimodalEncoder`, as ``audio_positions``.
        audio_positions: see ``audio_tag``.

    Attributes:
        wave_lengths: states of the wave encoder as a function of samples.
        waveform_normalized: whether clips must have zero mean and unit variance.

    Raises:
        StkError: a view is missing, or features are not samples.
    """

    encoder: BimodalEncoder
    config: BimodalConfig
    NAME: ClassVar[str]

    def __init__(
        self,
        config: BimodalConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None,
        *,
        audio_tag: bool,
        audio_positions: bool,
    ) -> None:
        super().__init__(config)
        if feature_dim is not None:
            need_waveform(self.NAME, feature_dim)
        size = vocab_size(vocab_sizes, config.target_view)
        wave = wave_shape(config.wave)
        self.decoder = Decoder(config.shape, config.decoder_layers, size)
        self.encoder = BimodalEncoder(
            wave,
            config.shape,
            config.encoder_layers,
            self.decoder.embedding,
            channels=config.conv_channels,
            kernels=config.conv_kernels,
            audio_tag=audio_tag,
            audio_positions=audio_positions,
        )
        self.wave_lengths = self.encoder.wave.extractor.lengths
        self.waveform_normalized = wave.normalized

    def encode(self, source: Source) -> Encoded:
        """Encode samples ``(B, N)`` or token ids ``(B, S)``; the dtype tells which.

        Raises:
            StkError: a clip is shorter than the receptive field.
            ValueError: the source holds frames.
        """
        if not source.is_text and source.data.dim() != 2:
            raise ValueError(f"{self.NAME} encodes samples (B, N) or tokens, not frames")
        return Encoded(*self.encoder(source.data, source.lengths, source.masked))
