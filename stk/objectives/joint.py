"""Joint CTC and attention (Kim et al., 2017; Watanabe et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.objectives import ctc, task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.cross_entropy import read_length, target_length, target_sums, with_tokens
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of


@dataclass(frozen=True, kw_only=True)
class JointConfig(task.SourceConfig, task.TargetConfig, ctc.CtcTargetConfig):
    """Configuration of :class:`Joint`; the weights may name scheduled scalars of the run."""

    smoothing: float = 0.1
    ce_weight: Weight = 0.7
    ctc_weight: Weight = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


class Joint(SequenceObjective[JointConfig]):
    """Cross-entropy of the target and CTC over the encoder, from one pass of the encoder.

    Sums ``ce``, ``nll`` and ``accuracy`` per ``tokens``, ``ctc`` per ``ctc_tokens`` (or
    ``examples``).
    """

    texts: ClassVar[tuple[str, ...]] = ("target", "ctc_text")

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames or tokens of the source, tokens of the longer text."""
        size = task.source_size(example, self.config, context)
        size = with_tokens(size, target_length(example, self.config, context))
        return with_tokens(size, len(ctc.ctc_ids(example, self.config, context)))

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of source or target; CTC labels have no position."""
        return read_length(example, self.config, self.config, context)

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why no CTC path fits, or None."""
        return ctc.refuse_ctc(example, size, self.config, context)

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Source, decoder input and labels, CTC labels."""
        target = task.collate_target(items, self.config, context)
        labels = ctc.collate_ctc(items, self.config, context)
        return SequenceBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            target=target,
            ctc=labels,
            sizes={
                "examples": len(items),
                "tokens": len(target.labels),
                "ctc_tokens": int(labels.lengths.sum()),
            },
        )

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``ce``, ``nll``, ``accuracy`` and ``ctc``."""
        assert batch.target is not None and batch.ctc is not None
        config, scalars = self.config, context.scalars
        encoded = model.encode(batch.source)
        ce_weight = weight_of(config.ce_weight, scalars)
        ctc_weight = weight_of(config.ctc_weight, scalars)
        return {
            **target_sums(model, encoded, batch.target, config.smoothing, ce_weight, "ce"),
            **ctc.ctc_sums(encoded, batch.ctc, config.ctc_per, ctc_weight),
        }
