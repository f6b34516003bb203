"""Denoising: BART (Lewis et al., 2020), mBART (Liu et al., 2020), and the auto-encoding of
unsupervised translation (Lample et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stk.data.batch import Item, Size
from stk.data.example import Example
from stk.data.noise.blank import blank
from stk.data.noise.deletion import delete
from stk.data.noise.drop import drop
from stk.data.noise.infilling import infill_rows
from stk.data.noise.permutation import permute
from stk.data.noise.rotation import rotate
from stk.data.noise.rows import Generators
from stk.data.noise.shuffle import shuffle
from stk.data.noise.symbols import Ids, symbols_of
from stk.data.vocab import Vocab
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.corrupted import CorruptedObjective, Layout
from stk.objectives.cross_entropy import target_sums
from stk.objectives.monolingual import MonolingualConfig
from stk.objectives.sequence import SequenceBatch, weight_of


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(MonolingualConfig):
    """Configuration of :class:`Denoising`; noise acts in the order of the keys, 0 switches it off.

    The defaults are BART's: sentences permuted, 0.3 of the words infilled. mBART:
    ``infill: 0.35, layout: mbart``. Unsupervised translation: ``permute: false, infill: 0,
    shuffle: 3, drop: 0.1, blank: 0.1``, and a scheduled scalar as ``weight``.

    ``layout`` says where the language's tag stands: see :data:`stk.objectives.corrupted.Layout`.
    """

    permute: bool = True
    delete: float = 0.0
    shuffle: float = 0.0
    drop: float = 0.0
    blank: float = 0.0
    infill: float = 0.3
    span: float = 3.5
    random_share: float = 0.0
    rotate: bool = False
    whole_words: bool = False
    layout: Layout = "plain"
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("delete", "drop", "blank", "infill", "random_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1]")
        if self.span <= 0 or self.shuffle < 0:
            raise ValueError("span must be above 0, shuffle at least 0")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError("smoothing must lie in [0, 1)")


class Denoising(CorruptedObjective[DenoisingConfig]):
    """Writes a text that it reads noised. Sums as ``cross_entropy``."""

    @property
    def reads_language(self) -> bool:
        """Whether the text's language is needed."""
        return self.config.languages or self.config.layout != "plain"

    def size(self, example: Example, context: CollateContext) -> Size:
        """Tokens of the text with tag and begin; masks of length 0 are few and not foreseen."""
        return Size(tokens=len(self.ids(example, context)) + 2)

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the text and, with a layout that has one, its tag."""
        return len(self.ids(example, context)) + (self.config.layout != "plain")

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Noised sources; every row's generator draws its own."""
        vocab, texts = self.vocab(context), [self.ids(item.example, context) for item in items]
        noised = self.noised(texts, [item.rng for item in items], vocab)
        rows = [
            self.laid_out(item.example, corrupted, ids, self.config.layout, vocab)
            for item, ids, corrupted in zip(items, texts, noised, strict=True)
        ]
        return self.pad(items, rows, context)

    def noised(
        self, texts: Sequence[Sequence[int]], rngs: Generators, vocab: Vocab
    ) -> list[list[int]]:
        """Noised ids of every text, whose sentences end with eos each."""
        config, symbols = self.config, symbols_of(vocab)
        rows = [
            self._before(np.asarray(ids, dtype=np.int64), rng, vocab)
            for ids, rng in zip(texts, rngs, strict=True)
        ]
        if config.infill:
            share = config.random_share
            rows = infill_rows(
                rows, rngs, symbols, rate=config.infill, mean=config.span, random_share=share
            )
        if config.rotate:
            rows = [rotate(tokens, rng) for tokens, rng in zip(rows, rngs, strict=True)]
        return [tokens.tolist() for tokens in rows]

    def _before(self, tokens: Ids, rng: np.random.Generator, vocab: Vocab) -> Ids:
        """One text with the noise that comes before infilling."""
        config, symbols = self.config, symbols_of(vocab)
        whole = config.whole_words
        if config.permute:
            tokens = permute(tokens, rng, vocab.eos)
        if config.delete:
            tokens = delete(tokens, rng, symbols, rate=config.delete)
        if config.shuffle:
            tokens = shuffle(tokens, rng, symbols, distance=config.shuffle, whole_words=whole)
        if config.drop:
            tokens = drop(tokens, rng, symbols, rate=config.drop, whole_words=whole)
        if config.blank:
            tokens = blank(tokens, rng, symbols, rate=config.blank, whole_words=whole)
        return tokens

    def forward(self, model: Any, batch: SequenceBatch, context: Context) -> dict[str, Sum]:
        """``loss``, ``nll`` and ``accuracy``."""
        assert batch.target is not None
        weight = weight_of(self.config.weight, context.scalars)
        encoded = model.encode(batch.source)
        return target_sums(model, encoded, batch.target, self.config.smoothing, weight)
