"""The Transformer for text (Vaswani et al., 2017), up to deep encoders (Wang et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stk.data.batch import Source
from stk.errors import StkError
from stk.models.encoder_decoder import EncoderDecoder, TransformerConfig, run_stack, vocab_size
from stk.models.outputs import Encoded
from stk.modules.decoder import Decoder
from stk.modules.dropout import dropout
from stk.modules.embedding import PAD, TokenEmbedding
from stk.modules.lengths import LengthFormula
from stk.modules.norm import LayerNorm
from stk.modules.positions import LearnedPositions
from stk.modules.rows import Rows
from stk.modules.text_embedding import EmbeddingShape, TextEmbedding
from stk.modules.transformer import EncoderStack, LayerShape


@dataclass(frozen=True, kw_only=True)
class TextTransformerConfig(TransformerConfig):
    """Configuration of :class:`TextTransformer`.

    ``tie`` shares embeddings: ``none``, ``decoder`` (target embedding and output projection), or
    ``all`` (those and the source embedding; both views must be one vocabulary). ``languages`` is
    the size of the tables of language embeddings, at least the number of the vocabulary's tags
    (0: none). ``embedding_norm`` normalises what enters both stacks, ``embedding_scale``
    multiplies token vectors by ``sqrt(width)``, ``output_bias`` adds a bias to tied logits.
    ``init_std`` draws all matrices and tables from N(0, ``init_std``^2), 0.02 in BART and BERT;
    None: Glorot's bounds for matrices, 1 / width for the variance of tables.
    """

    attention_dropout: float | None = 0.0
    activation_dropout: float | None = 0.0
    source_view: str = "src"
    tie: Literal["none", "decoder", "all"] = "decoder"
    languages: int = 0
    embedding_norm: bool = False
    embedding_scale: bool = True
    output_bias: bool = False
    norm_eps: float = 1e-5
    init_std: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init_std is not None and self.init_std <= 0:
            raise ValueError("init_std must be above 0 (null: Glorot's bounds)")

    @property
    def embedding_shape(self) -> EmbeddingShape:
        """How tokens enter both stacks."""
        return EmbeddingShape(
            positions=self.positions,
            max_positions=self.max_positions,
            languages=self.languages,
            scaled=self.embedding_scale,
            normalize=self.embedding_norm,
        )


class TextEncoder(TextEmbedding):
    """Embedding, positions, encoder layers.

    Args:
        shape: of the layers.
        layers: how many.
        size: of the vocabulary.
        embedding: how tokens enter.
    """

    def __init__(
        self, shape: LayerShape, layers: int, size: int, embedding: EmbeddingShape
    ) -> None:
        super().__init__(size, shape.width, embedding)
        self.dropout = shape.dropout
        self.stack = EncoderStack(shape, layers)

    def forward(
        self, source: Source, tap: int | None = None, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode ``source.data (B, S)`` int64.

        Args:
            source: ids, padded with 0, at will with positions and languages.
            tap: a layer, counted from 1, whose output is wanted too.
            visible: ``(1, S)`` or ``(B, S)`` int64, how many tokens each one sees; None: all.

        Returns:
            States ``(B, S, D)``, and those of layer ``tap`` or None; zero in the padding.
        """
        rows = Rows(source.lengths, source.data.shape[1])
        x = self.embed(source.data, places=source.positions, languages=source.languages)
        x = dropout(rows.pack(x), self.dropout, self.training)
        return run_stack(self.stack, x, rows, tap, visible)


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
    } | {
        name: {
            "encoder_layers": layers,
            "decoder_layers": layers,
            "width": width,
            "ffn": ffn,
            "heads": heads,
            "norm": "post",
            "activation": "gelu",
            "positions": "learned",
            "embedding_norm": True,
            "embedding_scale": False,
            "init_std": 0.02,
        }
        for name, layers, width, ffn, heads in (
            ("bart_base", 6, 768, 3072, 12),
            ("bart_large", 12, 1024, 4096, 16),
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
            config.embedding_shape,
        )
        self.decoder = new_decoder(config, target_size)
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
        initialise(self, config)

    def encode(self, source: Source) -> Encoded:
        """Encode ``source.data (B, S)`` int64.

        Raises:
            ValueError: the source is sound.
        """
        if not source.is_text:
            raise ValueError("text_transformer encodes token ids, not sound")
        states, tapped = self.encoder(source, self.config.ctc_layer)
        encoded = self.with_ctc(states, source.lengths, tapped)
        if source.target_languages is None:
            return encoded
        return replace(encoded, extra={"target_languages": source.target_languages})


def new_decoder(config: TextTransformerConfig, target_size: int) -> Decoder:
    """The decoder that a configuration describes, for ``target_size`` tokens."""
    return Decoder(
        config.shape,
        config.decoder_layers,
        target_size,
        embedding=config.embedding_shape,
        tied=config.tie != "none",
        output_bias=config.output_bias,
    )


def initialise(model: nn.Module, config: TextTransformerConfig) -> None:
    """Give a built model the configuration's ``norm_eps``, and ``init_std`` if it has one."""
    set_eps(model, config.norm_eps)
    if config.init_std is not None:
        draw_normal(model, config.init_std)


def set_eps(model: nn.Module, eps: float) -> None:
    """Give every layer normalisation of a model this ``eps``."""
    for module in model.modules():
        if isinstance(module, LayerNorm):
            module.eps = eps


def draw_normal(model: nn.Module, std: float) -> None:
    """Draw matrices and tables of a model from N(0, ``std``^2); biases and padding are zero.

    Normalisations keep what they have (Devlin et al., 2019; Lewis et al., 2020).
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding, TokenEmbedding, LearnedPositions)):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, TokenEmbedding):
            nn.init.zeros_(module.weight.data[PAD])
