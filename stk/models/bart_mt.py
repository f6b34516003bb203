"""BART for translation into its language (Lewis et al., 2020, section 3.4).

A new encoder, with a vocabulary of its own, stands where a pre-trained denoiser's encoder had its
token embeddings: it turns a sentence of another language into what the denoiser can read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from stk.data.batch import Source
from stk.models.encoder_decoder import EncoderDecoder, vocab_size
from stk.models.outputs import Encoded
from stk.models.text_transformer import (
    TextEncoder,
    TextTransformer,
    TextTransformerConfig,
    initialise,
    new_decoder,
)
from stk.modules.semantic import SemanticEncoder


@dataclass(frozen=True, kw_only=True)
class BartMtConfig(TextTransformerConfig):
    """Configuration of :class:`BartMt`: the denoiser's, and ``source_layers`` of the new encoder.

    Its layers have the denoiser's width, heads and norms, since its states stand for the
    denoiser's token vectors. ``source_view`` is the new vocabulary, ``target_view`` the denoiser's.
    """

    source_layers: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_layers < 1:
            raise ValueError("source_layers must be at least 1")
        if self.tie == "all":
            raise ValueError("tie: all: the encoder of bart_mt has no tokens; use tie: decoder")
        if self.languages:
            raise ValueError("languages: bart_mt has no language embeddings; leave it out")
        if self.ctc_layer is not None:
            raise ValueError("ctc_layer: bart_mt has no CTC head; leave it out")


class BartMt(EncoderDecoder):
    """Text of one language to a denoiser's. Views: ``source_view``, ``target_view``.

    Components, by prefix: ``source.`` (new), ``encoder.`` and ``decoder.``, which have the names of
    a ``text_transformer``'s, apart from the encoder's tokens:
    ``init_from: [{checkpoint: ..., components: {encoder: encoder, decoder: decoder}}]``.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: not used; text has no features.

    Raises:
        StkError: a view is missing.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: TextTransformer.PRESETS[name] for name in ("bart_base", "bart_large")
    }

    FREEZES: ClassVar[dict[str, tuple[tuple[str, str | None], ...]]] = {
        "bart_mt_source": (
            (
                r"^(encoder|decoder)\.",
                r"^((encoder|decoder)\.positions|encoder\.stack\.layers\.0\.self_attention\.qkv)\.",
            ),
        ),
    }
    """Name -> pairs of what is frozen and what of it is spared.

    ``bart_mt_source`` is the first of the paper's two steps: the new encoder trains, with it the
    denoiser's learned positions (of both its stacks) and what projects queries, keys and values in
    the first layer of its encoder. The second step freezes nothing.
    """

    encoder: SemanticEncoder
    config: BartMtConfig

    def __init__(
        self,
        config: BartMtConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None = None,
    ) -> None:
        super().__init__(config)
        self.source = TextEncoder(
            config.shape,
            config.source_layers,
            vocab_size(vocab_sizes, config.source_view),
            config.embedding_shape,
        )
        self.encoder = SemanticEncoder(
            config.shape,
            config.encoder_layers,
            config.positions,
            config.max_positions,
            normalize=config.embedding_norm,
        )
        self.decoder = new_decoder(config, vocab_size(vocab_sizes, config.target_view))
        initialise(self, config)

    def encode(self, source: Source) -> Encoded:
        """Encode ``source.data (B, S)`` int64 ids of ``source_view``; states are ``(B, S, D)``.

        Raises:
            ValueError: the source is sound.
        """
        if not source.is_text:
            raise ValueError("bart_mt encodes token ids, not sound")
        vectors, _ = self.source(source)
        return Encoded(self.encoder(vectors, source.lengths), source.lengths)
