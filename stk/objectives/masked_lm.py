"""Masked and translation language modelling (Devlin et al., 2019; Conneau and Lample, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.data.noise.masking import BERT_MIX, Mix, frequency_weights, mask_rows
from stk.data.noise.symbols import symbols_of
from stk.data.token_counts import check_counts, load_counts
from stk.errors import StkError
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.monolingual import (
    LanguageModelling,
    LanguageModellingConfig,
    Row,
    TokenBatch,
    language_field,
    language_id,
    sentences,
    token_batch,
    token_sums,
)
from stk.objectives.sequence import weight_of

FIELDS: tuple[task.TextField, task.TextField] = ("src_text", "tgt_text")


@dataclass(frozen=True, kw_only=True)
class MaskedLmConfig(LanguageModellingConfig):
    """Configuration of :class:`MaskedLm`.

    ``rate`` of the text is chosen; ``mix`` holds the shares that become the mask and a random
    token. ``counts`` is a ``.npy`` file with the occurrences of every id (written by
    :func:`stk.data.token_counts.count_tokens`): a token is then chosen with a weight of
    ``count ** -frequency_exponent``, as in XLM.
    """

    rate: float = 0.15
    mix: Mix = BERT_MIX
    counts: str | None = None
    frequency_exponent: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError("rate must lie in (0, 1]")
        if min(self.mix) < 0 or sum(self.mix) > 1:
            raise ValueError("mix: shares must not be negative nor add up to more than 1")


class MaskedLm(LanguageModelling[MaskedLmConfig]):
    """Names the chosen tokens of ``bos, sentence, eos, sentence, eos ...`` from both sides.

    Sums ``loss`` per ``tokens`` (the chosen ones), and the metric ``accuracy``.
    """

    def collate(self, items: Sequence[Item], context: CollateContext) -> TokenBatch:
        """Masked rows; each row's generator chooses."""
        vocab, config = self.vocab(context), self.config
        weights = self._weights
        if weights is not None:
            check_counts(weights, vocab, config.counts)
        plain = [self._row(item.example, context) for item in items]
        tokens = [np.asarray(row.ids, dtype=np.int64) for row in plain]
        masked = mask_rows(
            tokens,
            [item.rng for item in items],
            symbols_of(vocab),
            rate=config.rate,
            mix=config.mix,
            weights=weights,
        )
        rows = [
            replace(row, ids=out.tolist(), places=at.tolist(), labels=ids[at].tolist())
            for row, ids, (out, at) in zip(plain, tokens, masked, strict=True)
        ]
        return token_batch([item.example.id for item in items], rows)

    def _row(self, example: Example, context: CollateContext) -> Row:
        """A row of which nothing is masked yet."""
        ids = [self.vocab(context).bos, *self.ids(example, context)]
        languages = None
        if self.config.languages:
            languages = [self.language(example, context)] * len(ids)
        return Row(ids, (), (), languages)

    @cached_property
    def _weights(self) -> np.ndarray | None:
        if self.config.counts is None:
            return None
        return frequency_weights(load_counts(self.config.counts), self.config.frequency_exponent)

    def forward(self, model: Any, batch: TokenBatch, context: Context) -> dict[str, Sum]:
        """``loss`` and ``accuracy``."""
        weight = weight_of(self.config.weight, context.scalars)
        return token_sums(model, model.encode(batch.source).states, batch, weight)


class TranslationLm(MaskedLm):
    """Masked modelling of ``bos, source, eos, bos, target, eos`` as one row.

    Positions begin again at 0 with the target, and every token has its side's language; tokens
    of both sides are chosen, so that one side helps to name the other's. ``text`` is not read.
    """

    def __init__(self, config: MaskedLmConfig) -> None:
        super().__init__(config)
        if config.continuous:
            raise StkError("translation_lm reads pairs of sentences, not pieces of a stream")
        languages = [language_field(f) for f in FIELDS] if config.languages else []
        self.needs = frozenset({*FIELDS, *languages})  # type: ignore[misc]

    def size(self, example: Example, context: CollateContext) -> Size:
        """Tokens of both texts."""
        return Size(tokens=sum(len(part) for part in self._parts(example, context)))

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the longer text: positions begin again with the second one."""
        return max(len(part) for part in self._parts(example, context))

    def _parts(self, example: Example, context: CollateContext) -> list[list[int]]:
        vocab = self.vocab(context)
        return [[vocab.bos, *sentences(getattr(example, field), vocab)] for field in FIELDS]

    def _row(self, example: Example, context: CollateContext) -> Row:
        vocab, parts = self.vocab(context), self._parts(example, context)
        languages = None
        if self.config.languages:
            languages = [
                language_id(getattr(example, language_field(field)), vocab)
                for field, part in zip(FIELDS, parts, strict=True)
                for _ in part
            ]
        ids = [token for part in parts for token in part]
        positions = [place for part in parts for place in range(len(part))]
        return Row(ids, (), (), languages, positions)
