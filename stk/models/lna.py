"""LNA fine-tuning (Li et al., 2021): a wave encoder, a length adaptor, a multilingual decoder.

Layer norms and attention of the two pre-trained parts train, all else of them stays as it is. The
named freeze patterns are those of the paper and of its code (fairseq S2T).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.encoder_decoder import EncoderDecoder, TransformerConfig, vocab_size
from stk.models.outputs import Encoded
from stk.models.text_transformer import TextEncoder
from stk.models.wave import need_waveform, samples_of, wave_shape
from stk.modules.decoder import Decoder
from stk.modules.rows import Rows
from stk.modules.subsampling import Conv1dSubsampler
from stk.modules.text_embedding import EmbeddingShape
from stk.modules.transformer import Activation
from stk.modules.wave_encoder import WaveEncoder, WaveShape

_ENCODER = (
    r"^encoder\.wave\.",
    r"^encoder\.wave\.(feature_norm|input_norm|stack\.norm"
    r"|stack\.layers\.\d+\.(self_attention|self_attention_norm|feed_forward_norm))\.",
)
_DECODER = (
    r"^decoder\.",
    r"^decoder\.(norm|layers\.\d+\.(self_attention|cross_attention|self_attention_norm"
    r"|cross_attention_norm|feed_forward_norm))\.",
)
_DECODER_LEAST = (
    r"^decoder\.",
    r"^decoder\.(norm|layers\.\d+\.(cross_attention|self_attention_norm"
    r"|cross_attention_norm|feed_forward_norm))\.",
)


@dataclass(frozen=True, kw_only=True)
class LnaConfig(TransformerConfig):
    """Configuration of :class:`Lna`.

    ``wave`` is the wave encoder: at will a ``preset``, and keys of
    :class:`stk.modules.wave_encoder.WaveShape`. ``adaptor_layers`` convolutions of stride 2 follow.
    ``text_encoder`` adds an encoder of ``encoder_layers`` layers for joint training on parallel
    text, which shares the decoder's table.
    """

    activation: Activation = "gelu"
    positions: Literal["sinusoidal", "sinusoidal_exact", "learned"] = "learned"
    wave: dict[str, Any] = field(default_factory=lambda: {"preset": "large"})
    adaptor_layers: int = 3
    embedding_norm: bool = True
    text_encoder: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ctc_layer is not None:
            raise ValueError("ctc_layer: this model has no CTC head")
        if self.adaptor_layers < 1:
            raise ValueError("adaptor_layers must be at least 1")

    @property
    def embedding(self) -> EmbeddingShape:
        """How tokens enter."""
        return EmbeddingShape(
            positions=self.positions,
            max_positions=self.max_positions,
            normalize=self.embedding_norm,
        )


class AdaptedWaveEncoder(nn.Module):
    """A wave encoder and the adaptor that halves its states a few times."""

    def __init__(self, wave: WaveShape, width: int, layers: int) -> None:
        super().__init__()
        self.wave = WaveEncoder(wave)
        self.adaptor = Conv1dSubsampler(
            wave.width, width, channels=2 * width, kernels=(3,) * layers
        )

    def forward(
        self, samples: Tensor, lengths: Tensor, masked: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """States ``(B, T, D)`` of samples ``(B, N)``, zero in the padding, and lengths.

        ``masked`` is that of :class:`stk.modules.wave_encoder.WaveEncoder`.
        """
        x, lengths = self.adaptor(*self.wave(samples, lengths, masked))
        return Rows(lengths, x.shape[1], pack=False).clean(x), lengths


class Lna(EncoderDecoder):
    """Sound to text, and text to text with a text encoder.

    Components, by prefix: ``encoder.wave.`` (what ``encoder.`` is in wav2vec2),
    ``encoder.adaptor.``, ``decoder.``, ``text_encoder.``. The adaptor always trains.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens; ``target_view`` is used.
        feature_dim: 1; None in runs over text alone.

    Attributes:
        wave_lengths: states of the wave encoder as a function of samples.
        waveform_normalized: whether clips must have zero mean and unit variance.

    Raises:
        StkError: a view is missing, or features are not samples.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "large": {
            "encoder_layers": 12,
            "decoder_layers": 12,
            "width": 1024,
            "ffn": 4096,
            "heads": 16,
            "wave": {"preset": "large"},
        },
        "tiny": {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "width": 128,
            "ffn": 512,
            "heads": 4,
            "wave": {"preset": "tiny"},
        },
    }

    FREEZES: ClassVar[dict[str, tuple[tuple[str, str | None], ...]]] = {
        "lna_e": (_ENCODER,),
        "lna_d": (_DECODER,),
        "lna_ed": (_ENCODER, _DECODER),
        "lna_minimal": (_ENCODER, _DECODER_LEAST),
    }
    """Name -> pairs of what is frozen and what of it is spared.

    ``lna_e`` trains layer norms and self-attention of the wave encoder, ``lna_d`` layer norms,
    self-attention and cross-attention of the decoder, ``lna_ed`` both; ``lna_minimal`` is that
    without the decoder's self-attention. The norms of convolutions and of the embedding stay
    frozen, as in the published code, whose patterns do not match their names.
    """

    encoder: AdaptedWaveEncoder
    config: LnaConfig

    def __init__(
        self, config: LnaConfig, vocab_sizes: Mapping[str, int], feature_dim: int | None
    ) -> None:
        super().__init__(config)
        if feature_dim is not None:
            need_waveform("lna", feature_dim)
        size, wave = vocab_size(vocab_sizes, config.target_view), wave_shape(config.wave)
        self.encoder = AdaptedWaveEncoder(wave, config.width, config.adaptor_layers)
        self.decoder = Decoder(
            config.shape, config.decoder_layers, size, embedding=config.embedding
        )
        self.text_encoder: TextEncoder | None = None
        if config.text_encoder:
            self.text_encoder = TextEncoder(
                config.shape, config.encoder_layers, size, config.embedding
            )
            self.text_encoder.embedding = self.decoder.embedding
        self.wave_lengths = self.encoder.wave.extractor.lengths
        self.waveform_normalized = wave.normalized

    def encode(self, source: Source) -> Encoded:
        """Encode samples ``(B, N)``, or token ids ``(B, S)`` with a text encoder.

        Raises:
            StkError: text without a text encoder, or a clip shorter than the receptive field.
        """
        if source.is_text and self.text_encoder is not None:
            return Encoded(self.text_encoder(source)[0], source.lengths)
        if source.is_text:
            raise StkError(
                "lna has no text encoder, and was given text", mend="set model.text_encoder=true"
            )
        return Encoded(*self.encoder(*samples_of("lna", source), source.masked))
