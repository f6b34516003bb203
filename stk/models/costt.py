"""COSTT: one decoder writes the transcript, then the translation (Dong et al., 2021, AAAI).

An acoustic encoder with a CTC head, shrinking by the CTC labels, a semantic encoder over what is
left, a decoder that writes ``<asr> transcript <ast> translation``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.encoder_decoder import EncoderDecoder, vocab_size
from stk.models.outputs import Encoded
from stk.models.speech_transformer import SpeechEncoder, SpeechTransformerConfig
from stk.modules.decoder import Decoder
from stk.modules.semantic import SemanticEncoder
from stk.modules.shrink import CtcShrink


@dataclass(frozen=True, kw_only=True)
class CosttConfig(SpeechTransformerConfig):
    """Configuration of :class:`Costt`.

    ``encoder_layers`` counts the acoustic encoder's layers; the CTC head sits on the last of them.
    ``reduce`` says what a run of frames with one CTC label becomes: its ``first`` frame (as the
    authors' code has it), their ``mean``, the mean ``weighted`` by the label's posterior, or, with
    ``none``, every frame stays (the twin that shrinking is compared with).
    """

    semantic_layers: int = 6
    reduce: Literal["first", "mean", "weighted", "none"] = "first"

    def __post_init__(self) -> None:
        if self.ctc_layer is None:
            object.__setattr__(self, "ctc_layer", self.encoder_layers)
        super().__post_init__()
        if self.ctc_layer != self.encoder_layers:
            raise ValueError("the CTC head sits on the last acoustic layer: leave out ctc_layer")
        if self.semantic_layers < 1:
            raise ValueError("semantic_layers must be at least 1")


class Costt(EncoderDecoder):
    """Frames to transcript and translation. Views: ``target_view`` and ``ctc_view``.

    Components: ``encoder.`` (acoustic), ``ctc.``, ``semantic.``, ``decoder.``. The first two and
    the last fit those of ``speech_transformer``.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: features of a frame; a run over text alone states its features too.

    Raises:
        StkError: a view is missing, or there are no features.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {
            "encoder_layers": 6,
            "semantic_layers": 6,
            "decoder_layers": 6,
            "width": 512,
            "ffn": 2048,
            "heads": 8,
            "dropout": 0.1,
            "subsampler": "stack",
        }
    }

    encoder: SpeechEncoder
    config: CosttConfig

    def __init__(
        self, config: CosttConfig, vocab_sizes: Mapping[str, int], feature_dim: int | None
    ) -> None:
        super().__init__(config)
        if feature_dim is None:
            raise StkError("the model reads sound", mend="add the section features")
        self.encoder = SpeechEncoder(config, feature_dim)
        self.add_ctc(vocab_size(vocab_sizes, config.ctc_view), self.encoder.subsampler.lengths)
        self.shrink = None if config.reduce == "none" else CtcShrink(reduce=config.reduce)
        self.semantic = SemanticEncoder(
            config.shape, config.semantic_layers, config.positions, config.max_positions
        )
        self.decoder = Decoder(
            config.shape,
            config.decoder_layers,
            vocab_size(vocab_sizes, config.target_view),
            position_kind=config.positions,
            position_limit=config.max_positions,
            tied=config.tie != "none",
        )

    def encode(self, source: Source) -> Encoded:
        """Encode frames, or stand in for them while the decoder learns from text alone.

        Args:
            source: ``(B, T, F)`` frames. Of a text nothing is read: the decoder gets one state of
                ones a sentence, as in the first of the paper's three stages.

        Returns:
            Semantic states ``(B, R, D)`` and their lengths; for frames CTC scores ``(B, T', V)`` of
            the acoustic states, whose runs of equal labels became the ``R`` states, and
            ``extra["segments"] (B, T')`` int64: which of the states a frame went into, -1 for none.

        Raises:
            ValueError: the source holds samples instead of frames.
        """
        if source.is_text:
            like = self.decoder.embedding.weight
            count = len(source.lengths)
            ones = like.new_ones(count, 1, self.config.width)
            return Encoded(ones, source.lengths.new_ones(count))
        if source.data.dim() != 3:
            raise ValueError("the model encodes frames (B, T, F)")
        states, lengths, _ = self.encoder(source.data, source.lengths)
        assert self.ctc is not None
        scores, kept, extra = self.ctc(states), lengths, {}
        if self.shrink is not None:
            shrunk = self.shrink(states, scores, lengths)
            states, kept = shrunk.states, shrunk.lengths
            extra["segments"] = shrunk.segments
        return Encoded(self.semantic(states, kept), kept, scores, lengths, extra)
