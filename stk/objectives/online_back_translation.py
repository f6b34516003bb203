"""Online back-translation for unsupervised translation (Lample et al., 2018; XLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from stk.data.batch import Item, Padded, Size, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.corrupted import Corrupted, CorruptedObjective
from stk.objectives.cross_entropy import target_sums
from stk.objectives.monolingual import MonolingualConfig, language_field, language_id
from stk.objectives.sequence import SequenceBatch, weight_of


@dataclass(frozen=True, kw_only=True)
class OnlineBackTranslationConfig(MonolingualConfig):
    """Configuration of :class:`OnlineBackTranslation`.

    ``other`` is the language to translate into and back from. ``layout: tags`` puts a side's
    language tag before it, ``plain`` leaves languages to ``languages: true``. A translation is
    cut at ``max_ratio`` times the text's tokens plus ``max_extra``.
    """

    other: str
    layout: Literal["plain", "tags"] = "tags"
    max_ratio: float = 1.3
    max_extra: int = 5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.layout == "plain" and not self.languages:
            raise ValueError("layout: plain needs languages: true, or no side has a language")
        if self.max_ratio < 0 or self.max_extra < 1:
            raise ValueError("max_ratio must be at least 0, max_extra at least 1")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class BackTranslationBatch(SequenceBatch):
    """Text to be translated, and to be written again.

    Attributes:
        prefix: ids forced at the start of every translation, which begin it as a source too.
        eos: id of the end symbol.
        other: row of the other language in tables of language embeddings; None without them.
    """

    prefix: tuple[int, ...]
    eos: int
    other: int | None


class OnlineBackTranslation(CorruptedObjective[OnlineBackTranslationConfig]):
    """Translates a text with the model as it is, and trains the way back.

    The translation is greedy, in evaluation mode and without gradients
    (``context.generate``). Sums as ``cross_entropy``.
    """

    @property
    def reads_language(self) -> bool:
        """The text's language is needed always."""
        return True

    def size(self, example: Example, context: CollateContext) -> Size:
        """Tokens of the text or of the longest translation, with tag and begin."""
        count = len(self.ids(example, context))
        return Size(tokens=max(count, self._limit(count) + 1) + 2)

    def _limit(self, count: int) -> int:
        return int(self.config.max_ratio * count) + self.config.max_extra

    def collate(self, items: Sequence[Item], context: CollateContext) -> BackTranslationBatch:
        """What is translated first, and decoder input and labels of the way back."""
        vocab, rows = self.vocab(context), []
        for item in items:
            ids, tags = self.ids(item.example, context), []
            if self.config.layout == "tags":
                tags = [vocab.tag(getattr(item.example, language_field(self.config.text)))]
            rows.append(Corrupted([*tags, *ids], [vocab.bos, *tags, *ids[:-1]], ids, len(tags)))
        batch = self.pad(items, rows, context)
        tagged = self.config.layout == "tags"
        return BackTranslationBatch(
            ids=batch.ids,
            source=batch.source,
            target=batch.target,
            sizes=batch.sizes,
            prefix=(vocab.tag(self.config.other),) if tagged else (),
            eos=vocab.eos,
            other=language_id(self.config.other, vocab) if self.config.languages else None,
        )

    def forward(self, model: Any, batch: BackTranslationBatch, context: Context) -> dict[str, Sum]:
        """``loss``, ``nll`` and ``accuracy`` of the way back.

        Raises:
            StkError: the run offers no ``generate``.
        """
        assert batch.target is not None
        encoded = model.encode(self.translated(batch, context))
        weight = weight_of(self.config.weight, context.scalars)
        return target_sums(model, encoded, batch.target, self.config.smoothing, weight)

    def translated(self, batch: BackTranslationBatch, context: Context) -> Source:
        """The translations as a source; its languages are the other way round.

        Raises:
            StkError: the run offers no ``generate``.
        """
        if context.generate is None:
            raise StkError("this run cannot translate while it trains", mend="use strategy: ddp")
        there, device = batch.source, batch.source.data.device
        if batch.other is not None:
            other = torch.full_like(there.lengths, batch.other)
            there = Source(
                there.data, there.lengths, languages=there.languages, target_languages=other
            )
        written = context.generate(there, [batch.prefix] * len(batch.ids))
        lengths = (there.lengths - len(batch.prefix)).tolist()
        rows = [
            [*batch.prefix, *ids[: self._limit(count)], batch.eos]
            for ids, count in zip(written, lengths, strict=True)
        ]
        back = Padded.stack(rows).to(device)
        if batch.other is None:
            return Source(back.data, back.lengths)
        return Source(
            back.data,
            back.lengths,
            languages=torch.full_like(back.data, batch.other),
            target_languages=batch.source.target_languages,
        )
