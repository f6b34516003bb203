"""Translation from noised sources: noised back-translation (Edunov et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stk.data.batch import Item, Padded, Source
from stk.data.noise.blank import blank
from stk.data.noise.drop import drop
from stk.data.noise.shuffle import shuffle
from stk.data.noise.symbols import symbols_of
from stk.data.vocab import Vocab
from stk.objectives import task
from stk.objectives.base import CollateContext
from stk.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig


@dataclass(frozen=True, kw_only=True)
class NoisedTranslationConfig(CrossEntropyConfig):
    """Configuration of :class:`NoisedTranslation`: words dropped and blanked, and shuffled by at
    most ``shuffle`` places; 0 switches each off."""

    drop: float = 0.1
    blank: float = 0.1
    shuffle: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "audio":
            raise ValueError("source must be a text")
        if not (0.0 <= self.drop <= 1.0 and 0.0 <= self.blank <= 1.0) or self.shuffle < 0:
            raise ValueError("drop and blank must lie in [0, 1], shuffle must not be negative")


class NoisedTranslation(CrossEntropy):
    """Cross-entropy of an untouched target given a source whose words are noised in training.

    Every row's generator draws its own noise. Prefix, suffix and end symbols stay where they are,
    so with ``source_lines`` no word leaves its sentence; in validation and decoding nothing is
    noised.
    """

    config: NoisedTranslationConfig

    def collate_source(self, items: Sequence[Item], context: CollateContext) -> Source:
        """What the encoder reads, noised in training."""
        if not context.training:
            return super().collate_source(items, context)
        vocab = task.vocab_of(context, self.config.source_view)
        rows = [
            task.source_ids(item.example, self.config, context, self._noiser(item, vocab))
            for item in items
        ]
        padded = Padded.stack(rows)
        return Source(padded.data, padded.lengths)

    def _noiser(self, item: Item, vocab: Vocab) -> task.Encode:
        """From a sentence of the row to noised ids."""
        config, symbols = self.config, symbols_of(vocab)

        def noised(sentence: str) -> list[int]:
            ids, rng = np.asarray(vocab.encode(sentence), dtype=np.int64), item.rng
            if config.shuffle:
                ids = shuffle(ids, rng, symbols, distance=config.shuffle, whole_words=True)
            if config.drop:
                ids = drop(ids, rng, symbols, rate=config.drop, whole_words=True)
            if config.blank:
                ids = blank(ids, rng, symbols, rate=config.blank, whole_words=True)
            found: list[int] = ids.tolist()
            return found

        return noised
