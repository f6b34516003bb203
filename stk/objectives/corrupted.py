"""What objectives share that read a corrupted text and write the text, or part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from stk.data.batch import Item, Padded, Source
from stk.objectives.base import CollateContext
from stk.objectives.monolingual import MonolingualConfig, MonolingualObjective
from stk.objectives.sequence import SequenceBatch
from stk.objectives.task import TargetTokens

C = TypeVar("C", bound=MonolingualConfig)


@dataclass(frozen=True)
class Corrupted:
    """One row: what the encoder reads, what the decoder reads, and labels from place ``first``."""

    source: Sequence[int]
    inputs: Sequence[int]
    labels: Sequence[int]
    first: int = 0


class CorruptedObjective(MonolingualObjective[C]):
    """Base of objectives whose decoder writes what the encoder reads corrupted."""

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
