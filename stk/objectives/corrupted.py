"""What objectives share that read a corrupted text and write the text, or part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from stk.data.batch import Item, Padded, Source
from stk.data.example import Example
from stk.data.vocab import Vocab
from stk.objectives.base import CollateContext
from stk.objectives.monolingual import MonolingualConfig, MonolingualObjective, language_field
from stk.objectives.sequence import SequenceBatch
from stk.objectives.task import TargetTokens

C = TypeVar("C", bound=MonolingualConfig)

Layout = Literal["plain", "tags", "mbart"]
"""Where a text's tag stands.

``plain`` has none: the decoder writes from ``bos`` to ``eos``. ``tags`` puts it before what either
side reads, as ``source_prefix: src_lang`` and ``prefix: tgt_lang`` of ``cross_entropy`` do.
``mbart`` puts it behind the source and behind the labels, and begins the decoder's input with it,
as ``source_suffix: src_lang``, ``begin: tgt_lang`` and ``end: begin`` do.
"""


@dataclass(frozen=True)
class Corrupted:
    """One row: what the encoder reads, what the decoder reads, and labels from place ``first``."""

    source: Sequence[int]
    inputs: Sequence[int]
    labels: Sequence[int]
    first: int = 0


class CorruptedObjective(MonolingualObjective[C]):
    """Base of objectives whose decoder writes what the encoder reads corrupted."""

    def laid_out(
        self,
        example: Example,
        read: Sequence[int],
        ids: Sequence[int],
        layout: Layout,
        vocab: Vocab,
    ) -> Corrupted:
        """The whole text ``ids`` as what is written, given what is read of it."""
        if layout == "plain":
            return Corrupted(read, [vocab.bos, *ids[:-1]], ids)
        tag = vocab.tag(getattr(example, language_field(self.config.text)))
        if layout == "tags":
            return Corrupted([tag, *read], [vocab.bos, tag, *ids[:-1]], ids, first=1)
        return Corrupted([*read, tag], [tag, *ids], [*ids, tag])

    def pad(
        self, items: Sequence[Item], rows: Sequence[Corrupted], context: CollateContext
    ) -> SequenceBatch:
        """Rows as a batch; with ``languages`` both sides have the text's language."""
        source = Padded.stack([row.source for row in rows])
        inputs = Padded.stack([row.inputs for row in rows])
        width = inputs.data.shape[1]
        places = [
            torch.arange(len(row.labels)) + (number * width + row.first)
            for number, row in enumerate(rows)
        ]
        languages = None
        if self.config.languages:
            languages = torch.tensor([self.language(item.example, context) for item in items])
        labels = torch.tensor([label for row in rows for label in row.labels], dtype=torch.int64)
        return SequenceBatch(
            ids=tuple(item.example.id for item in items),
            source=Source(
                source.data,
                source.lengths,
                languages=None if languages is None else languages[:, None].expand_as(source.data),
                target_languages=languages,
            ),
            target=TargetTokens(inputs, torch.cat(places), labels),
            sizes={"examples": len(rows), "tokens": len(labels)},
        )
