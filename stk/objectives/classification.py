"""Classification of a text or of a pair of texts, as in XNLI (Conneau et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stk.data.batch import Batch, Item, Padded, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.monolingual import MonolingualConfig, MonolingualObjective
from stk.objectives.sequence import weight_of
from stk.objectives.smoothed import smoothed_cross_entropy


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(MonolingualConfig):
    """Configuration of :class:`Classification`.

    ``labels`` are the classes' names in the order of the model's scores; an example's is its
    ``tgt_text``. A pair (premise and hypothesis) is two lines of the text.
    """

    labels: tuple[str, ...]
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.text != "src_text":
            raise ValueError("text must be src_text: tgt_text holds the label")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ValueError("labels: name at least two, each once")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class ClassificationBatch(Batch):
    """Texts and their classes.

    Attributes:
        source: ``bos, text, eos`` (a pair: ``bos, first, eos, second, eos``).
        classes: ``(B,)`` int64.
    """

    source: Source
    classes: Tensor


class Classification(MonolingualObjective[ClassificationConfig]):
    """Cross-entropy of a text's class. Sums ``loss`` and the metric ``accuracy`` per ``examples``.

    With ``group_by: [src_lang]`` validation gives the accuracy in every language.
    """

    def __init__(self, config: ClassificationConfig) -> None:
        super().__init__(config)
        self.needs = self.needs | {"tgt_text"}  # type: ignore[misc]

    def require(self, example: Example) -> None:
        """Raise unless the example has its text and one of the labels.

        Raises:
            StkError: names the file, the row and what is wrong.
        """
        super().require(example)
        self._class(example)

    def _class(self, example: Example) -> int:
        if example.tgt_text not in self.config.labels:
            raise StkError(
                f"example {example.id!r} has the label {example.tgt_text!r}",
                file=example.file,
                row=example.row,
                mend=f"labels: {', '.join(self.config.labels)}",
            )
        return self.config.labels.index(example.tgt_text)

    def collate(self, items: Sequence[Item], context: CollateContext) -> ClassificationBatch:
        """Padded texts and their classes."""
        vocab = self.vocab(context)
        rows = [[vocab.bos, *self.ids(item.example, context)] for item in items]
        padded, languages = Padded.stack(rows), None
        if self.config.languages:
            own = [self.language(item.example, context) for item in items]
            languages = torch.tensor(own)[:, None].expand_as(padded.data)
        return ClassificationBatch(
            ids=tuple(item.example.id for item in items),
            source=Source(padded.data, padded.lengths, languages=languages),
            classes=torch.tensor([self._class(item.example) for item in items]),
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        """``examples``."""
        return {"examples": len(batch.ids)}

    def forward(self, model: Any, batch: ClassificationBatch, context: Context) -> dict[str, Sum]:
        """``loss`` and ``accuracy``.

        Raises:
            StkError: the model has another number of classes than there are labels.
        """
        scores = model.classify(batch.source)
        if scores.shape[1] != len(self.config.labels):
            raise StkError(
                f"the model has {scores.shape[1]} classes, but there are "
                f"{len(self.config.labels)} labels",
                mend=f"model.classes={len(self.config.labels)}",
            )
        loss, _, correct = smoothed_cross_entropy(scores, batch.classes, self.config.smoothing)
        weight = weight_of(self.config.weight, context.scalars)
        return {"loss": Sum(loss, "examples", weight), "accuracy": Sum(correct, "examples", 0.0)}
