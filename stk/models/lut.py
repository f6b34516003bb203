"""LUT, "listen, understand, translate" (Dong et al., 2021, AAAI).

An acoustic encoder with a CTC head, a semantic encoder whose states are taught by BERT features of
the transcript, and a decoder. BERT and the part that compares with it are needed in training alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stk.data.batch import Padded
from stk.errors import StkError
from stk.models.costt import Costt, CosttConfig
from stk.models.outputs import Encoded
from stk.modules.attention import CrossAttention
from stk.modules.linear import linear
from stk.modules.rows import Rows, zero_padding


@dataclass(frozen=True, kw_only=True)
class LutConfig(CosttConfig):
    """Configuration of :class:`Lut`.

    ``bert_width`` is the width of the BERT features. ``match: pooled`` compares them with the mean
    of the semantic states, ``match: tokens`` with what ``matcher_heads`` heads of attention gather
    when BERT's features are the queries. Nothing is shrunk unless ``reduce`` says so.
    """

    semantic_layers: int = 4
    reduce: Literal["first", "mean", "weighted", "none"] = "none"
    bert_width: int = 768
    match: Literal["pooled", "tokens"] = "tokens"
    matcher_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bert_width < 1 or self.matcher_heads < 1 or self.bert_width % self.matcher_heads:
            raise ValueError("bert_width must be a multiple of matcher_heads")


class Lut(Costt):
    """Frames to a translation. Views: ``target_view`` and ``ctc_view``.

    Components: those of :class:`~stk.models.costt.Costt`, and ``matcher.``, which only
    :meth:`matched` uses: encoding and decoding never run it. ``match: pooled`` has parameters there
    only where the states' width is not BERT's.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: features of a frame.

    Raises:
        StkError: a view is missing, or there are no features.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {
            "encoder_layers": 4,
            "semantic_layers": 4,
            "decoder_layers": 4,
            "width": 768,
            "ffn": 3072,
            "heads": 8,
            "dropout": 0.1,
        }
    }

    config: LutConfig

    def __init__(
        self, config: LutConfig, vocab_sizes: Mapping[str, int], feature_dim: int | None
    ) -> None:
        super().__init__(config, vocab_sizes, feature_dim)
        self.matcher: nn.Module
        if config.match == "tokens":
            self.matcher = CrossAttention(
                config.bert_width, config.matcher_heads, memory_width=config.width
            )
        elif config.width != config.bert_width:
            self.matcher = linear(config.width, config.bert_width)
        else:
            self.matcher = nn.Identity()

    def matched(self, encoded: Encoded, features: Padded) -> Tensor:
        """Semantic states in the form of BERT's features, to be compared with them.

        Args:
            encoded: what :meth:`encode` returned.
            features: ``(B, S, W)`` BERT features and their ``(B,)`` lengths; ``S`` is 1 where they
                are pooled. Padding may hold anything.

        Returns:
            ``(B, S, W)``, zero in the padding; padded states and padded queries take no part.

        Raises:
            StkError: features of another width, or of tokens where pooled ones are compared.
        """
        width = features.data.shape[-1]
        if width != self.config.bert_width:
            raise StkError(
                f"BERT features of width {width}, but model.bert_width is {self.config.bert_width}",
                mend="set model.bert_width, or make the sidecar with the BERT that was meant",
            )
        queries = Rows(features.lengths, features.data.shape[1])
        if self.config.match == "tokens":
            memory = Rows(encoded.lengths, encoded.states.shape[1])
            asked = zero_padding(features.data.to(encoded.states.dtype), queries.mask())
            asked = queries.pack(asked)
            return queries.clean(self.matcher(asked, queries, memory.pack(encoded.states), memory))
        if features.data.shape[1] != 1:
            raise StkError(
                "match: pooled compares one BERT feature a sentence, the sidecar has one a token",
                mend="set model.match to tokens, or make the sidecar with --pooled",
            )
        # States are zero in the padding, so the sum is that of the real ones.
        mean = encoded.states.sum(1) / encoded.lengths.clamp_min(1)[:, None]
        return self.matcher(mean)[:, None]
