"""Online back-translation for unsupervised translation (Lample et al., 2018; XLM; mBART)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from stk.data.batch import Item, Padded, Size, Source
from stk.data.example import Example
from stk.data.token_counts import check_counts, load_counts
from stk.errors import StkError
from stk.objectives.base import CollateContext, Context, Helper, Sum
from stk.objectives.corrupted import CorruptedObjective, Layout
from stk.objectives.cross_entropy import target_sums
from stk.objectives.monolingual import MonolingualConfig, language_id
from stk.objectives.sequence import SequenceBatch, weight_of


@dataclass(frozen=True, kw_only=True)
class OnlineBackTranslationConfig(MonolingualConfig):
    """Configuration of :class:`OnlineBackTranslation`.

    ``other`` is the language to translate into and back from. ``layout`` says where a side's
    language tag stands (:data:`stk.objectives.corrupted.Layout`); ``plain`` leaves languages to
    ``languages: true``. A translation has at most ``max_ratio`` times the text's tokens plus
    ``max_extra``.

    Up to update ``ban_until`` (0: never), tokens whose share of the other language's text is under
    ``ban_below`` are not written, so that the model does not learn to copy its source: in mBART
    0.01 and 1000. ``counts`` is that text's ``.npy`` file, as ``stk-data counts`` writes it.
    """

    other: str
    layout: Layout = "tags"
    max_ratio: float = 1.3
    max_extra: int = 5
    ban_below: float = 0.01
    ban_until: int = 0
    counts: str | None = None
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.layout == "plain" and not self.languages:
            raise ValueError("layout: plain needs languages: true, or no side has a language")
        if self.max_ratio < 0 or self.max_extra < 1:
            raise ValueError("max_ratio must be at least 0, max_extra at least 1")
        if not 0.0 < self.ban_below <= 1.0 or self.ban_until < 0:
            raise ValueError("ban_below must lie in (0, 1], ban_until must not be negative")
        if (self.ban_until > 0) != (self.counts is not None):
            raise ValueError("ban_until and counts go together: tokens are banned by their counts")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class BackTranslationBatch(SequenceBatch):
    """Text to be translated, and to be written again.

    Attributes:
        prefix: ids forced at the start of every translation, which begin it as a source too.
        suffix: ids behind every translation as a source; as many are behind the text.
        frame: what begins and what ends every translation.
        eos: id of the end symbol.
        other: row of the other language in tables of language embeddings; None without them.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    frame: tuple[int, int]
    eos: int
    other: int | None


class OnlineBackTranslation(CorruptedObjective[OnlineBackTranslationConfig]):
    """Translates a text with the model as it is, and trains the way back.

    The translation is greedy, in evaluation mode and without gradients
    (``context.generate``). Sums as ``cross_entropy``. With ``layout: mbart`` a document of several
    lines is translated whole, as what the model writes before the language symbol.
    """

    @property
    def reads_language(self) -> bool:
        """The text's language is needed always."""
        return True

    def check_helpers(self, helpers: Mapping[str, Helper], context: CollateContext) -> None:
        """Raise unless the counts are of the run's vocabulary and leave a token to write.

        Raises:
            StkError: names the file of counts.
        """
        super().check_helpers(helpers, context)
        if self.config.counts is not None:
            check_counts(self._shares, self.vocab(context), self.config.counts)

    def size(self, example: Example, context: CollateContext) -> Size:
        """Tokens of the text or of the longest translation, with tag and begin."""
        count = len(self.ids(example, context))
        return Size(tokens=max(count, self._limit(count) + 1) + 2)

    def _limit(self, count: int) -> int:
        return int(self.config.max_ratio * count) + self.config.max_extra

    def collate(self, items: Sequence[Item], context: CollateContext) -> BackTranslationBatch:
        """What is translated first, and decoder input and labels of the way back."""
        vocab, layout = self.vocab(context), self.config.layout
        texts = [self.ids(item.example, context) for item in items]
        rows = [
            self.laid_out(item.example, ids, ids, layout, vocab)
            for item, ids in zip(items, texts, strict=True)
        ]
        batch = self.pad(items, rows, context)
        tag = [] if layout == "plain" else [vocab.tag(self.config.other)]
        begin, end = tag * 2 if layout == "mbart" else [vocab.bos, vocab.eos]
        return BackTranslationBatch(
            ids=batch.ids,
            source=batch.source,
            target=batch.target,
            sizes=batch.sizes,
            prefix=tuple(tag) if layout == "tags" else (),
            suffix=tuple(tag) if layout == "mbart" else (),
            frame=(begin, end),
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
        texts = (there.lengths - len(batch.prefix) - len(batch.suffix)).tolist()
        written = context.generate(
            there,
            [batch.prefix] * len(texts),
            limits=torch.tensor([self._limit(count) for count in texts], device=device),
            frames=[batch.frame] * len(texts),
            banned=self._banned(context.step, batch.eos),
        )
        ended = [ids if ids[-1:] == [batch.eos] else [*ids, batch.eos] for ids in written]
        back = Padded.stack([[*batch.prefix, *ids, *batch.suffix] for ids in ended]).to(device)
        if batch.other is None:
            return Source(back.data, back.lengths)
        return Source(
            back.data,
            back.lengths,
            languages=torch.full_like(back.data, batch.other),
            target_languages=batch.source.target_languages,
        )

    def _banned(self, step: int, eos: int) -> list[int]:
        """Ids that are not to be written after ``step`` updates; the end of a sentence may be."""
        if step >= self.config.ban_until:
            return []
        rare = np.flatnonzero(self._shares < self.config.ban_below)
        return [index for index in rare.tolist() if index != eos]

    @cached_property
    def _shares(self) -> np.ndarray:
        """``(V,)`` float64, every token's share of the other language's text."""
        assert self.config.counts is not None
        counts = load_counts(self.config.counts)
        shares: np.ndarray = counts / max(1, counts.sum())
        if not (shares >= self.config.ban_below).any():
            raise StkError(
                f"no token is {self.config.ban_below:g} of the text or more, so all are banned",
                file=self.config.counts,
                mend="lower ban_below, or count the other language's text",
            )
        return shares
