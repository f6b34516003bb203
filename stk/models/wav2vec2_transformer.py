"""A wave encoder and a Transformer decoder (Wang et al., 2021, self-training for translation)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder, TransformerConfig, vocab_size
from stk.models.outputs import Encoded
from stk.models.wave import need_waveform, samples_of, wave_shape
from stk.modules.decoder import Decoder
from stk.modules.text_embedding import EmbeddingShape
from stk.modules.wave_encoder import WaveEncoder


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2TransformerConfig(TransformerConfig):
    """Configuration of :class:`Wav2Vec2Transformer`; all sizes but ``wave`` are the decoder's.

    ``wave`` is the wave encoder: at will a ``preset``, and keys of
    :class:`stk.modules.wave_encoder.WaveShape`; ``encoder_layers`` is not read but is its number of
    layers. ``ctc_layer``, if any, is the last of these.
    """

    encoder_layers: int = 1  # replaced
    wave: dict[str, Any] = field(default_factory=lambda: {"preset": "large"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_layers", wave_shape(self.wave).layers)
        super().__post_init__()
        if self.ctc_layer not in (None, self.encoder_layers):
            raise ValueError(
                f"the CTC head sits on the last wave layer: ctc_layer is {self.encoder_layers}"
            )


class Wav2Vec2Transformer(EncoderDecoder):
    """Sound to text without an adaptor: the decoder attends to every step of the wave encoder.

    Components, by prefix: ``encoder.`` (what ``encoder.`` is in wav2vec2), ``decoder.``, at will
    ``ctc.`` (the linear layer that Baevski et al. fine-tune wav2vec 2.0 for recognition with). The
    published runs are four: wav2vec 2.0; fine-tuning with the encoder frozen for the first 10,000
    updates; a new student on pseudo-labels beside as much gold, its input masked; fine-tuning of
    the student on gold.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens; ``target_view`` is used, and ``ctc_view`` with
            a CTC head.
        feature_dim: 1.

    Attributes:
        wave_lengths: states as a function of samples.
        waveform_normalized: whether clips must have zero mean and unit variance.

    Raises:
        StkError: a view is missing, or features are not samples.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "large": {
            "decoder_layers": 7,
            "width": 256,
            "ffn": 2048,
            "heads": 4,
            "wave": {"preset": "large", "layer_drop": 0.05},
        },
        "tiny": {
            "decoder_layers": 2,
            "width": 128,
            "ffn": 512,
            "heads": 4,
            "wave": {"preset": "tiny"},
        },
    }

    encoder: WaveEncoder
    config: Wav2Vec2TransformerConfig

    def __init__(
        self,
        config: Wav2Vec2TransformerConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None,
    ) -> None:
        super().__init__(config)
        need_waveform("wav2vec2_transformer", feature_dim)
        size, wave = vocab_size(vocab_sizes, config.target_view), wave_shape(config.wave)
        self.encoder = WaveEncoder(wave)
        embedding = EmbeddingShape(positions=config.positions, max_positions=config.max_positions)
        self.decoder = Decoder(
            config.shape,
            config.decoder_layers,
            size,
            memory_width=wave.width,
            embedding=embedding,
        )
        self.wave_lengths = self.encoder.extractor.lengths
        self.waveform_normalized = wave.normalized
        if config.ctc_layer is not None:
            heard = vocab_size(vocab_sizes, config.ctc_view)
            self.add_ctc(heard, self.wave_lengths, width=wave.width)

    def encode(self, source: Source) -> Encoded:
        """Encode samples ``(B, N)``, masked where the source says so.

        Raises:
            StkError: the source is text, or a clip is shorter than the receptive field.
        """
        samples, lengths = samples_of("wav2vec2_transformer", source)
        states, lengths = self.encoder(samples, lengths, source.masked)
        return self.with_ctc(states, lengths, states)
