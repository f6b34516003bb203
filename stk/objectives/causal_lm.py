"""Causal language modelling: every token from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.monolingual import (
    LanguageModelling,
    LanguageModellingConfig,
    Row,
    TokenBatch,
    token_batch,
    token_sums,
)
from stk.objectives.sequence import weight_of


class CausalLm(LanguageModelling[LanguageModellingConfig]):
    """Reads ``bos, text`` and names ``text`` (end symbols included); nothing is carried over.

    Sums ``loss`` per ``tokens``, and the metric ``accuracy``.
    """

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the text: what is read is shifted by one, not longer."""
        return len(self.ids(example, context))

    def collate(self, items: Sequence[Item], context: CollateContext) -> TokenBatch:
        """Rows shifted by one."""
        rows = []
        for item in items:
            ids = self.ids(item.example, context)
            read = [self.vocab(context).bos, *ids[:-1]]
            languages = None
            if self.config.languages:
                languages = [self.language(item.example, context)] * len(read)
            rows.append(Row(read, range(len(ids)), ids, languages))
        return token_batch([item.example.id for item in items], rows)

    def forward(self, model: Any, batch: TokenBatch, context: Context) -> dict[str, Sum]:
        """``loss`` and ``accuracy``."""
        states = model.encode(batch.source, causal_only=True).states
        return token_sums(model, states, batch, weight_of(self.config.weight, context.scalars))
