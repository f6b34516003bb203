"""Transcript and translation as one string (COSTT; Dong et al., 2021, AAAI).

The decoder writes ``transcript... <ast> translation... eos`` after the forced tag ``<asr>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.objectives import ctc, task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.cross_entropy import target_sums, with_tokens
from stk.objectives.sequence import (
    SequenceBatch,
    SequenceObjective,
    Weight,
    Written,
    weight_of,
)

if TYPE_CHECKING:
    from stk.data.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class ConsecutiveConfig(task.SourceConfig, task.TargetConfig, ctc.CtcTargetConfig):
    """Configuration of :class:`Consecutive`; the weights may name scheduled scalars of the run.

    The target is written after ``transcript``, with the tag ``separator`` between them. The
    vocabulary ``target_view`` has both texts and both tags. Without ``transcript_loss`` nothing up
    to and with the separator is in the loss. Where the source is a text (the decoder learns
    from text pairs alone) there is no CTC: set ``ctc_weight: 0``.
    """

    prefix: str = "asr"
    separator: str = "ast"
    transcript: task.TextField = "src_text"
    transcript_loss: bool = True
    smoothing: float = 0.1
    ce_weight: Weight = 0.5
    ctc_weight: Weight = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.begin != "bos":
            raise ValueError("begin: an output of transcript and translation begins with bos")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")
        if self.separator in ("none", "src_lang", "tgt_lang", self.prefix):
            raise ValueError("separator must be a tag of its own")
        if self.transcript == self.target:
            raise ValueError("transcript and target must be two fields")
        if self.source != "audio" and self.ctc_weight != 0:
            raise ValueError("a text source has no CTC: set ctc_weight to 0")

    @property
    def listens(self) -> bool:
        """Whether CTC is part of the loss."""
        return self.ctc_weight != 0


class Consecutive(SequenceObjective[ConsecutiveConfig]):
    """Cross-entropy of the joint string, and CTC over the acoustic encoder.

    Sums ``ce``, ``nll`` and ``accuracy`` per ``tokens``, ``ctc`` per ``ctc_tokens`` (or
    ``examples``).
    """

    texts: ClassVar[tuple[str, ...]] = ("target", "transcript")

    def __init__(self, config: ConsecutiveConfig) -> None:
        super().__init__(config)
        self.written_tags = (config.separator,)
        if config.listens:
            self.needs = self.needs | {config.ctc_text}  # type: ignore[misc]

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames or tokens of the source, tokens of the joint string."""
        size = task.source_size(example, self.config, context)
        size = with_tokens(size, 1 + len(self._joint(example, context)[0]))
        if self.config.listens:
            size = with_tokens(size, len(ctc.ctc_ids(example, self.config, context)))
        return size

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of source or joint string; CTC labels have no position."""
        source = task.source_size(example, self.config, context).tokens
        return max(source, 1 + len(self._joint(example, context)[0]))

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why no CTC path fits, or None."""
        if not self.config.listens:
            return None
        return ctc.refuse_ctc(example, size, self.config, context)

    def _joint(self, example: Example, context: CollateContext) -> tuple[list[int], int]:
        """Ids between bos and eos, and how many of the first are not in the loss."""
        config = self.config
        vocab = task.vocab_of(context, config.target_view)
        prefix = task.prefix_ids(example, vocab, config.prefix)
        heard = [*vocab.encode(getattr(example, config.transcript)), vocab.tag(config.separator)]
        silent = len(prefix) + (0 if config.transcript_loss else len(heard))
        return [*prefix, *heard, *vocab.encode(getattr(example, config.target))], silent

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Source, the joint string as decoder input and labels, CTC labels."""
        vocab = task.vocab_of(context, self.config.target_view)
        target = task.stack_target([self._joint(item.example, context) for item in items], vocab)
        labels = ctc.collate_ctc(items, self.config, context) if self.config.listens else None
        sizes = {"examples": len(items), "tokens": len(target.labels)}
        if labels is not None:
            sizes["ctc_tokens"] = int(labels.lengths.sum())
        return SequenceBatch(
            ids=tuple(item.example.id for item in items),
            source=self.collate_source(items, context),
            target=target,
            ctc=labels,
            sizes=sizes,
        )

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``ce``, ``nll``, ``accuracy`` and ``ctc``."""
        assert batch.target is not None
        config = self.config
        encoded = model.encode(batch.source)
        weight = weight_of(config.ce_weight, context.scalars)
        sums = target_sums(model, encoded, batch.target, config.smoothing, weight, "ce")
        if batch.ctc is not None:
            weight = weight_of(config.ctc_weight, context.scalars)
            sums |= ctc.ctc_sums(encoded, batch.ctc, config.ctc_per, weight)
        return sums

    def read(self, ids: Sequence[int], vocab: Vocab) -> Written:
        """Split at the first separator; without one all is transcript, the translation empty."""
        tag, ids = vocab.tag(self.config.separator), list(ids)
        at = ids.index(tag) if tag in ids else len(ids)
        heard, said = vocab.decode(ids[:at]), vocab.decode(ids[at + 1 :])
        return Written(said, transcript=heard, separated=at < len(ids))
