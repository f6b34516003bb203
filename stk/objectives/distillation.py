"""Word-level knowledge distillation from a text translation teacher (Liu et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from stk.data.batch import Item, Padded, Size, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Helper, Sum
from stk.objectives.cross_entropy import (
    logit_sums,
    read_length,
    target_length,
    target_logits,
    with_tokens,
)
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of
from stk.objectives.soft_labels import soft_cross_entropy, sparse_cross_entropy

TEACHER_KIND = "teacher probabilities"
"""What sidecars that :func:`stk.decoding.teacher.write_teacher` makes say of themselves."""


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(task.SourceConfig, task.TargetConfig):
    """Configuration of :class:`Distillation`.

    The loss is ``(1 - kd_weight)`` times cross-entropy plus ``kd_weight`` times distillation;
    ``kd_weight`` may name a scheduled scalar of the run. The teacher is the run's helper
    ``teacher``, which reads ``teacher_text`` through the vocabulary ``teacher_view`` after
    ``teacher_prefix``. With ``sidecar`` its most probable tokens are read from there instead and
    the teacher does not run; if the helper is named all the same, its weights must be those that
    made the sidecar.
    """

    smoothing: float = 0.1
    kd_weight: Weight = 0.8
    teacher: str = "teacher"
    sidecar: str | None = None
    teacher_text: task.TextField = "src_text"
    teacher_view: str = "src"
    teacher_prefix: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")
        if not isinstance(self.kd_weight, str) and not 0.0 <= self.kd_weight <= 1.0:
            raise ValueError("kd_weight must lie between 0 and 1")

    @property
    def lesson(self) -> task.SourceConfig:
        """What the teacher reads."""
        return task.SourceConfig(
            source=self.teacher_text,
            source_view=self.teacher_view,
            source_prefix=self.teacher_prefix,
        )


@dataclass(frozen=True, kw_only=True)
class DistillationBatch(SequenceBatch):
    """A source, a target and what the teacher has to say or to read.

    Attributes:
        lesson: what the teacher reads, or None with a sidecar.
        choices: ``(N, K)`` int64, the teacher's most probable tokens for every label, or None.
        shares: ``(N, K)`` fp32, their probabilities; rows sum to 1.
    """

    lesson: Source | None = None
    choices: Tensor | None = None
    shares: Tensor | None = None


class Distillation(SequenceObjective[DistillationConfig]):
    """Cross-entropy of the target, and of the teacher's distribution over every next token.

    ``kd = -sum_u sum_v p_T(v | y_<u, text) log p_S(v | y_<u, source)``. Sums ``ce``, ``nll``,
    ``accuracy`` and ``kd`` per ``tokens``; at weight 0 the teacher is not asked and ``kd`` is
    missing.
    """

    texts: ClassVar[tuple[str, ...]] = ("target",)

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__(config)
        if config.sidecar is None:
            fields = {config.teacher_text} | task.prefix_fields(config.teacher_prefix)
            self.needs = self.needs | fields  # type: ignore[misc]

    def check_helpers(self, helpers: Mapping[str, Helper], context: CollateContext) -> None:
        """Raise unless teacher (or sidecar) and student share their vocabularies.

        Raises:
            StkError: no such helper or sidecar, a teacher that reads no text, vocabularies that
                differ, a sidecar made by another teacher or for another target.
        """
        super().check_helpers(helpers, context)
        config, teacher = self.config, helpers.get(self.config.teacher)
        if config.sidecar is not None:
            return
        if teacher is None:
            raise StkError(
                f"distillation needs the helper {config.teacher!r}",
                mend=f"add it under helpers (there: {', '.join(helpers) or 'none'}), or a sidecar",
            )
        views = {"source_view": config.teacher_view, "target_view": config.target_view}
        for side, own in views.items():
            theirs = getattr(getattr(teacher.model, "config", None), side, None)
            if theirs is None:
                what = "is no teacher: it does not translate text"
                raise StkError(what, file=teacher.file)
            if teacher.vocabs[theirs].digest != task.vocab_of(context, own).digest:
                raise StkError(
                    f"the teacher's vocabulary {theirs!r} is not this run's {own!r}",
                    file=teacher.file,
                    mend=f"use {teacher.file / 'vocab' / theirs} for {own!r}",
                )

    def sidecar_parts(
        self, helpers: Mapping[str, Helper], context: CollateContext
    ) -> Mapping[str, Mapping[str, object]]:
        """This target in this vocabulary, and the teacher where the run names it."""
        config = self.config
        if config.sidecar is None:
            return {}
        parts: dict[str, object] = {
            "kind": TEACHER_KIND,
            "target_vocabulary": task.vocab_of(context, config.target_view).digest,
            "target": config.target,
        }
        if config.teacher in helpers:
            parts["weights"] = helpers[config.teacher].digest
        return {config.sidecar: parts}

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames or tokens of the source, tokens of the target or of what the teacher reads."""
        size = task.source_size(example, self.config, context)
        size = with_tokens(size, target_length(example, self.config, context))
        if self.config.sidecar is None:
            lesson = task.source_ids(example, self.config.lesson, context)
            size = with_tokens(size, len(lesson))
        return size

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of source or target; the teacher's text is not this model's."""
        return read_length(example, self.config, self.config, context)

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why the teacher has nothing to say about an example, or None."""
        name = self.config.sidecar
        if name is None or name not in context.sidecars or example.id in context.sidecars[name]:
            return None
        return f"not in the sidecar {name}: {example.id}"

    def collate(self, items: Sequence[Item], context: CollateContext) -> DistillationBatch:
        """Source, decoder input and labels, and the teacher's source or probabilities."""
        target = task.collate_target(items, self.config, context)
        lesson, choices, shares = None, None, None
        if self.config.sidecar is None:
            rows = [task.source_ids(i.example, self.config.lesson, context) for i in items]
            padded = Padded.stack(rows)
            lesson = Source(padded.data, padded.lengths)
        else:
            choices, shares = self._taught(items, context)
        return DistillationBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            target=target,
            lesson=lesson,
            choices=choices,
            shares=shares,
            sizes={"examples": len(items), "tokens": len(target.labels)},
        )

    def _taught(self, items: Sequence[Item], context: CollateContext) -> tuple[Tensor, Tensor]:
        """The sidecar's tokens and probabilities for every label of a batch."""
        assert self.config.sidecar is not None
        sidecar = context.sidecars[self.config.sidecar]
        vocab = task.vocab_of(context, self.config.target_view)
        found = [sidecar[item.example.id] for item in items]
        for item, row in zip(items, found, strict=True):
            labels = [*vocab.encode(getattr(item.example, self.config.target)), vocab.eos]
            if row["labels"].tolist() != labels:
                raise StkError(
                    f"the sidecar {sidecar.path} knows example {item.example.id!r} with another "
                    f"{self.config.target}",
                    file=item.example.file,
                    row=item.example.row,
                    mend="make the sidecar again from this manifest",
                )
        shares = torch.cat([row["probs"] for row in found]).float()
        choices = torch.cat([row["choices"] for row in found]).long()
        return choices, shares / shares.sum(1, keepdim=True)

    def forward(self, model: Any, batch: DistillationBatch, context: Context) -> dict[str, Sum]:
        """``ce``, ``nll``, ``accuracy`` and ``kd``."""
        assert batch.target is not None
        weight = weight_of(self.config.kd_weight, context.scalars)
        logits = target_logits(model, model.encode(batch.source), batch.target)
        labels, smoothing, alone = batch.target.labels, self.config.smoothing, weight == 0.0
        sums = logit_sums(logits, labels, smoothing, 1.0 - weight, "ce", consume=alone)
        if alone:
            return sums
        if batch.lesson is not None:
            teacher: Any = context.helpers[self.config.teacher]
            with torch.no_grad():
                taught = target_logits(teacher, teacher.encode(batch.lesson), batch.target)
            loss = soft_cross_entropy(logits, taught)
        else:
            assert batch.choices is not None and batch.shares is not None
            loss = sparse_cross_entropy(logits, batch.choices, batch.shares)
        return {**sums, "kd": Sum(loss, "tokens", weight)}
