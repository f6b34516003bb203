"""CTC, BERT features and translation together (LUT; Dong et al., 2021, AAAI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stk.data.batch import Item, Padded, Size
from stk.data.bert_features import KIND, text_digest
from stk.data.example import Example
from stk.errors import StkError
from stk.models.outputs import Encoded
from stk.objectives import ctc, task
from stk.objectives.base import CollateContext, Context, Helper, Sum
from stk.objectives.cross_entropy import target_length, target_sums, with_tokens
from stk.objectives.sequence import SequenceBatch, SequenceObjective, Weight, weight_of


@dataclass(frozen=True, kw_only=True)
class UnderstandingConfig(task.SourceConfig, task.TargetConfig, ctc.CtcTargetConfig):
    """Configuration of :class:`Understanding`; the weights may name scheduled scalars of the run.

    ``sidecar`` has the BERT features of ``ctc_text`` (``stk-data bert`` writes it). With
    ``ce_weight: 0`` no translation is needed: a second stream over transcribed speech alone.
    """

    sidecar: str = "bert"
    smoothing: float = 0.1
    ctc_weight: Weight = 0.5
    mse_weight: Weight = 0.05
    ce_weight: Weight = 0.45

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")
        if self.source != "audio":
            raise ValueError("source must be audio")

    @property
    def translates(self) -> bool:
        """Whether the decoder is trained."""
        return self.ce_weight != 0


@dataclass(frozen=True, kw_only=True)
class UnderstandingBatch(SequenceBatch):
    """A source with its texts; ``features`` are ``(B, S, W)`` fp32 BERT features."""

    features: Padded


class Understanding(SequenceObjective[UnderstandingConfig]):
    """CTC on the acoustic encoder, distance of the semantic states to BERT's, cross-entropy.

    ``mse`` is the mean over the width of squared differences. Sums ``ctc`` per ``ctc_tokens`` (or
    ``examples``), ``mse`` per ``bert_states``, ``ce``, ``nll`` and ``accuracy`` per ``tokens``.
    """

    texts: ClassVar[tuple[str, ...]] = ("target", "ctc_text")

    def __init__(self, config: UnderstandingConfig) -> None:
        super().__init__(config)
        if not config.translates:
            unread = {config.target} | task.prefix_fields(config.prefix)
            self.needs = self.needs - (unread - {config.ctc_text})  # type: ignore[misc]

    def sidecar_parts(
        self, helpers: Mapping[str, Helper], context: CollateContext
    ) -> Mapping[str, Mapping[str, object]]:
        """BERT features of the text that this objective reads."""
        return {self.config.sidecar: {"kind": KIND, "text": self.config.ctc_text}}

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames of the source, tokens of the longer text."""
        size = task.source_size(example, self.config, context)
        size = with_tokens(size, len(ctc.ctc_ids(example, self.config, context)))
        if self.config.translates:
            size = with_tokens(size, target_length(example, self.config, context))
        return size

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the target, where there is one; CTC labels have no position."""
        return target_length(example, self.config, context) if self.config.translates else 0

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why no CTC path fits or nothing is known of the row, or None."""
        name = self.config.sidecar
        if name in context.sidecars and example.id not in context.sidecars[name]:
            return f"not in the sidecar {name}: {example.id}"
        return ctc.refuse_ctc(example, size, self.config, context)

    def collate(self, items: Sequence[Item], context: CollateContext) -> UnderstandingBatch:
        """Source, CTC labels, BERT features, decoder input and labels."""
        labels = ctc.collate_ctc(items, self.config, context)
        features = Padded.stack([self._features(item.example, context) for item in items])
        sizes = {"examples": len(items), "ctc_tokens": int(labels.lengths.sum())}
        sizes["bert_states"] = int(features.lengths.sum())
        target = None
        if self.config.translates:
            target = task.collate_target(items, self.config, context)
            sizes["tokens"] = len(target.labels)
        return UnderstandingBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            target=target,
            ctc=labels,
            features=features,
            sizes=sizes,
        )

    def _features(self, example: Example, context: CollateContext) -> torch.Tensor:
        sidecar = context.sidecars[self.config.sidecar]
        row = sidecar[example.id]
        if not torch.equal(row["text"], text_digest(getattr(example, self.config.ctc_text))):
            raise StkError(
                f"the sidecar {sidecar.path} knows example {example.id!r} with another "
                f"{self.config.ctc_text}",
                file=example.file,
                row=example.row,
                mend="make the sidecar again from this manifest",
            )
        return row["states"].float()

    def forward(self, model: Any, batch: UnderstandingBatch, context: Context) -> dict[str, Sum]:
        """``ctc``, ``mse``, and with a translation ``ce``, ``nll`` and ``accuracy``."""
        assert batch.ctc is not None
        config, scalars = self.config, context.scalars
        encoded: Encoded = model.encode(batch.source)
        ctc_weight = weight_of(config.ctc_weight, scalars)
        sums = ctc.ctc_sums(encoded, batch.ctc, config.ctc_per, ctc_weight)
        found, wanted = model.matched(encoded, batch.features).float(), batch.features
        real = torch.arange(found.shape[1], device=found.device) < wanted.lengths[:, None]
        distance = (found - wanted.data).square().mean(-1).masked_fill(~real, 0.0).sum()
        sums["mse"] = Sum(distance, "bert_states", weight_of(config.mse_weight, scalars))
        if batch.target is not None:
            weight = weight_of(config.ce_weight, scalars)
            sums |= target_sums(model, encoded, batch.target, config.smoothing, weight, "ce")
        return sums
