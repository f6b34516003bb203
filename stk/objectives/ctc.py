"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stk.data.batch import Item, Padded, Size
from stk.data.example import Example
from stk.errors import StkError
from stk.models.outputs import Encoded
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.cross_entropy import with_tokens
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of


@dataclass(frozen=True, kw_only=True)
class CtcTargetConfig:
    """What a CTC head writes: a text through the vocabulary ``ctc_view``.

    ``ctc_per`` divides the loss by labels or by examples.
    """

    ctc_text: task.TextField = "src_text"
    ctc_view: str = "ctc"
    ctc_per: Literal["tokens", "examples"] = "tokens"


@dataclass(frozen=True, kw_only=True)
class CtcConfig(task.SourceConfig, CtcTargetConfig):
    """Configuration of :class:`Ctc`; ``weight`` may name a scheduled scalar of the run."""

    weight: Weight = 1.0


class Ctc(SequenceObjective[CtcConfig]):
    """CTC alone: the encoder and its head learn, the decoder does not.

    Sums ``ctc`` per ``ctc_tokens`` (or ``examples``).
    """

    texts: ClassVar[tuple[str, ...]] = ("ctc_text",)

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames or tokens of the source, labels of the CTC text."""
        size = task.source_size(example, self.config, context)
        return with_tokens(size, len(ctc_ids(example, self.config, context)))

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the source; CTC labels have no position."""
        return task.source_size(example, self.config, context).tokens

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why no CTC path fits, or None."""
        return refuse_ctc(example, size, self.config, context)

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Source and CTC labels."""
        labels = collate_ctc(items, self.config, context)
        return SequenceBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            ctc=labels,
            sizes={"examples": len(items), "ctc_tokens": int(labels.lengths.sum())},
        )

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``ctc``."""
        assert batch.ctc is not None
        weight = weight_of(self.config.weight, context.scalars)
        return ctc_sums(model.encode(batch.source), batch.ctc, self.config.ctc_per, weight)


def ctc_ids(example: Example, config: CtcTargetConfig, context: CollateContext) -> list[int]:
    """CTC labels of an example, without blanks."""
    vocab = task.vocab_of(context, config.ctc_view)
    return vocab.encode(getattr(example, config.ctc_text))


def collate_ctc(items: Sequence[Item], config: CtcTargetConfig, context: CollateContext) -> Padded:
    """CTC labels ``(B, S)`` int64, padded with the blank."""
    return Padded.stack([ctc_ids(item.example, config, context) for item in items])


def ctc_frames(labels: Sequence[int]) -> int:
    """Frames the shortest path needs: one a label, and a blank between two equal ones."""
    repeats = sum(a == b for a, b in zip(labels, labels[1:], strict=False))
    return len(labels) + repeats


def refuse_ctc(
    example: Example, size: Size, config: CtcConfig | Any, context: CollateContext
) -> str | None:
    """Why an example's CTC labels do not fit its CTC frames, or None where they do.

    Frames are counted at the fastest speed that the stream's augmentation may draw.

    Raises:
        StkError: the model has no CTC head.
    """
    if context.ctc_lengths is None:
        raise StkError("the objective needs a CTC head", mend="set model.ctc_layer")
    extent = size.tokens
    if config.source == "audio":
        speeds = context.augment.speed if context.augment is not None else ()
        extent = int(size.frames / max((1.0, *speeds)))
        if context.wave_lengths is not None and context.frontend is not None:
            extent = context.frontend.least_samples(extent)  # a model that counts samples
    else:
        extent = len(task.source_ids(example, config, context))
    frames, needed = context.ctc_lengths(extent), ctc_frames(ctc_ids(example, config, context))
    if needed <= frames:
        return None
    # What stands before the colon is counted as one reason in the report before step 1.
    return f"{config.ctc_text} longer than its CTC frames: needs {needed}, has {frames}"


def ctc_sums(encoded: Encoded, labels: Padded, per: str, weight: float) -> dict[str, Sum]:
    """The CTC loss of encoder output that carries CTC logits.

    Raises:
        StkError: the model has no CTC head.
    """
    if encoded.ctc_logits is None or encoded.ctc_lengths is None:
        raise StkError("the objective needs a CTC head", mend="set model.ctc_layer")
    loss = ctc_loss(encoded.ctc_logits, encoded.ctc_lengths, labels)
    return {"ctc": Sum(loss, "ctc_tokens" if per == "tokens" else "examples", weight)}


def ctc_loss(logits: Tensor, lengths: Tensor, labels: Padded) -> Tensor:
    """Sum over the batch of ``-log p(labels)``, in at least fp32.

    A row whose labels fit no path adds nothing, to the loss or the gradient.

    Args:
        logits: ``(B, T, V)``, blank is id 0.
        lengths: ``(B,)`` int64 frames.
        labels: ``(B, S)`` int64, without blanks.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    scores = F.log_softmax(logits.transpose(0, 1), dim=-1, dtype=wide)
    return F.ctc_loss(
        scores, labels.data, lengths, labels.lengths, reduction="sum", zero_infinity=True
    )
