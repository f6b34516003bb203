"""The Transformer for text (Vaswani et al., 2017), up to deep encoders (Wang et al., 2019)."""

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
from stk.modules.embedding import TokenEmbedding
from stk.modules.lengths import LengthFormula
from stk.modules.positions import positions
from stk.modules.rows import Rows
from stk.modules.transformer import EncoderStack, LayerShape


@dataclass(frozen=True, kw_only=True)
class TextTransformerConfig(TransformerConfig):
    """Configuration of :class:`TextTransformer`.

    ``tie`` shares embeddings: ``none``, ``decoder`` (target embedding and output projection), or
    ``all`` (those and the source embedding; both views must be one vocabulary).
    """

    attention_dropout: float | None = 0.0
    activation_dropout: float | None = 0.0
    source_view: str = "src"
    tie: Literal["none", "decoder", "all"] = "decoder"


class TextEncoder(nn.Module):
    """Embedding, positions, encoder layers."""

    def __init__(
        self, shape: LayerShape, layers: int, size: int, position_kind: str, position_limit: int
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(size, shape.width)
        self.positions = positions(position_kind, shape.width, position_limit)
        self.dropout = shape.dropout
        self.stack = EncoderStack(shape, layers)

    def forward(
        self, tokens: Tensor, lengths: Tensor, tap: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode ``tokens (B, S)`` int64.

        Args:
            tokens: ids, padded with 0.
            lengths: ``(B,)`` int64.
            tap: a layer, counted from 1, whose output is wanted too.

        Returns:
            States ``(B, S, D)``, and those of layer ``tap`` or None; zero in the padding.
        """
        rows = Rows(lengths, tokens.shape[1])
        x = self.embedding(tokens)
        x = x + self.positions(tokens.shape[1]).to(x.dtype)
        x = dropout(rows.pack(x), self.dropout, self.training)
        return run_stack(self.stack, x, rows, tap)


class TextTransformer(EncoderDecoder):
    """Text to text. Views: ``source_view``, ``target_view`` (and ``ctc_view`` with a CTC head).

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: not used; text has no features.

    Raises:
        StkError: a view is missing, or ``tie: all`` over two vocabularies.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: {
            "encoder_layers": encoder,
            "decoder_layers": 6,
            "width": width,
            "ffn": ffn,
            "heads": heads,
            "norm": norm,
            "dropout": dropout,
        }
        for name, encoder, width, ffn, heads, norm, dropout in (
            ("small", 6, 512, 1024, 4, "post", 0.3),
            ("base", 6, 512, 2048, 8, "post", 0.1),
            ("big", 6, 1024, 4096, 16, "post", 0.3),
            ("deep12", 12, 768, 3072, 12, "post", 0.1),
            ("deep20", 20, 768, 3072, 12, "pre", 0.1),
        )
    }

    encoder: TextEncoder
    config: TextTransformerConfig

    def __init__(
        self,
        config: TextTransformerConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None = None,
    ) -> None:
        super().__init__(config)
        source_size = vocab_size(vocab_sizes, config.source_view)
        target_size = vocab_size(vocab_sizes, config.target_view)
        self.encoder = TextEncoder(
            config.shape,
            config.encoder_layers,
            source_size,
            config.positions,
            config.max_positions,
        )
        self.decoder = Decoder(
            config.shape,
            config.decoder_layers,
            target_size,
            position_kind=config.positions,
            position_limit=config.max_positions,
            tied=config.tie != "none",
        )
        if config.tie == "all":
            if source_size != target_size:
                raise StkError(
                    f"tie: all needs one vocabulary, but view {config.source_view!r} has "
                    f"{source_size} tokens and {config.target_view!r} {target_size}",
                    mend="train a joint vocabulary, or use tie: decoder",
                )
            self.encoder.embedding = self.decoder.embedding
        if config.ctc_layer is not None:
            self.add_ctc(vocab_size(vocab_sizes, config.ctc_view), LengthFormula())

    def encode(self, source: Source) -> Encoded:
        """Encode ``source.data (B, S)`` int64.

        Raises:
            ValueError: the source is sound.
        """
        if not source.is_text:
            raise ValueError("text_transformer encodes token ids, not sound")
        states, tapped = self.encoder(source.data, source.lengths, self.config.ctc_layer)
        return self.with_ctc(states, source.lengths, tapped)
