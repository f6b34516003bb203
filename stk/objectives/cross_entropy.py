"""Label-smoothed cross-entropy: recognition, text translation and speech translation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.models.outputs import Encoded
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of
from stk.objectives.smoothed import smoothed_cross_entropy


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(task.SourceConfig, task.TargetConfig):
    """Configuration of :class:`CrossEntropy`.

    ``smoothing`` spreads that much probability evenly over the vocabulary. ``weight`` may name a
    scheduled scalar of the run.
    """

    smoothing: float = 0.1
    weight: Weight = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


class CrossEntropy(SequenceObjective[CrossEntropyConfig]):
    """Cross-entropy of the target given the source, with label smoothing.

    Sums ``loss`` per ``tokens``; metrics ``nll`` (without smoothing) and ``accuracy`` (of the
    first choice) per ``tokens`` too. The prefix is in none of them.
    """

    texts: ClassVar[tuple[str, ...]] = ("target",)

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames or tokens of the source, tokens of the target."""
        return with_tokens(
            task.source_size(example, self.config, context),
            target_length(example, self.config, context),
        )

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Source, decoder input and labels."""
        target = task.collate_target(items, self.config, context)
        return SequenceBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            target=target,
            sizes={"examples": len(items), "tokens": len(target.labels)},
        )

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``loss``, ``nll`` and ``accuracy``."""
        assert batch.target is not None
        weight = weight_of(self.config.weight, context.scalars)
        encoded = model.encode(batch.source)
        return target_sums(model, encoded, batch.target, self.config.smoothing, weight)


def target_sums(
    model: Any,
    encoded: Encoded,
    target: task.TargetTokens,
    smoothing: float,
    weight: float,
    name: str = "loss",
) -> dict[str, Sum]:
    """Cross-entropy of a target given encoder states, and its metrics.

    Only positions that have a label are projected onto the vocabulary: padding and prefix cost
    nothing there.
    """
    logits = target_logits(model, encoded, target)
    return logit_sums(logits, target.labels, smoothing, weight, name, consume=True)


def target_logits(model: Any, encoded: Encoded, target: task.TargetTokens) -> Tensor:
    """Logits ``(N, V)`` at the positions that have a label."""
    states: Tensor = model.decode_states(encoded, target.inputs.data, target.inputs.lengths)
    logits: Tensor = model.project(states.flatten(0, 1).index_select(0, target.places))
    return logits


def logit_sums(
    logits: Tensor,
    labels: Tensor,
    smoothing: float,
    weight: float,
    name: str = "loss",
    *,
    consume: bool = False,
) -> dict[str, Sum]:
    """Cross-entropy of ``logits (N, V)`` against ``labels (N,)``, and its metrics.

    ``consume`` lets it overwrite logits that nothing else reads, see
    :func:`stk.objectives.smoothed.smoothed_cross_entropy`.
    """
    loss, nll, correct = smoothed_cross_entropy(logits, labels, smoothing, consume=consume)
    return {
        name: Sum(loss, "tokens", weight),
        "nll": Sum(nll, "tokens", 0.0),
        "accuracy": Sum(correct, "tokens", 0.0),
    }


def target_length(example: Example, config: task.TargetConfig, context: CollateContext) -> int:
    """Tokens the decoder reads: begin, prefix and pieces."""
    ids, _ = task.target_ids(example, config, task.vocab_of(context, config.target_view))
    return 1 + len(ids)


def read_length(
    example: Example, source: task.SourceConfig, target: task.TargetConfig, context: CollateContext
) -> int:
    """Tokens of the longer text that encoder or decoder reads; sound has none."""
    read = task.source_size(example, source, context).tokens
    return max(read, target_length(example, target, context))


def with_tokens(size: Size, tokens: int) -> Size:
    """A size whose longer text has at least ``tokens`` tokens."""
    return Size(frames=size.frames, tokens=max(size.tokens, tokens))
