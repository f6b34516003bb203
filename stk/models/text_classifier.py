"""A classifier over the encoder of a language model (Devlin et al., 2019; Conneau and Lample,
2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from stk.data.batch import Source
from stk.models.encoder_decoder import vocab_size
from stk.models.language_model import LanguageModel, LanguageModelConfig
from stk.models.outputs import Encoded
from stk.models.text_transformer import TextEncoder, set_eps
from stk.modules.dropout import dropout
from stk.modules.linear import linear


@dataclass(frozen=True, kw_only=True)
class TextClassifierConfig(LanguageModelConfig):
    """Configuration of :class:`TextClassifier`: that of the language model, and ``classes``.

    ``head_dropout`` acts on the first state before it is projected; ``head`` is not read.
    """

    classes: int
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 2:
            raise ValueError("classes must be at least 2")
        if not 0.0 <= self.head_dropout < 1.0:
            raise ValueError("head_dropout must lie in [0, 1)")


class TextClassifier(nn.Module):
    """Dropout and a linear layer on the first state of an encoder. View: ``view``.

    ``encoder.`` has the names of :class:`~stk.models.language_model.LanguageModel`, which
    initialises it: ``components: {encoder: encoder}``.

    Args:
        config: sizes.
        vocab_sizes: view name -> number of tokens.
        feature_dim: not used; text has no features.

    Raises:
        StkError: the view is missing.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        name: {key: value for key, value in preset.items() if key != "head"}
        for name, preset in LanguageModel.PRESETS.items()
    }

    def __init__(
        self,
        config: TextClassifierConfig,
        vocab_sizes: Mapping[str, int],
        feature_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.config, self.head_dropout = config, config.head_dropout
        size = vocab_size(vocab_sizes, config.view)
        self.encoder = TextEncoder(config.shape, config.layers, size, config.embedding_shape)
        self.output = linear(config.width, config.classes)
        set_eps(self, config.norm_eps)

    def encode(self, source: Source) -> Encoded:
        """States ``(B, S, D)`` of ``source.data (B, S)`` int64, zero in the padding."""
        states, _ = self.encoder(source)
        return Encoded(states, source.lengths)

    def classify(self, source: Source) -> Tensor:
        """Scores ``(B, classes)`` of texts, read off the state of their first token."""
        first = self.encode(source).states[:, 0]
        scores: Tensor = self.output(dropout(first, self.head_dropout, self.training))
        return scores

    @property
    def activation_checkpointing(self) -> bool:
        """Whether training recomputes layers in the backward pass, to save memory; settable."""
        return self.encoder.stack.activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, on: bool) -> None:
        self.encoder.stack.activation_checkpointing = on
