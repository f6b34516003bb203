"""Masked sequence to sequence pre-training, MASS (Song et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stk.data.batch import Item, Movable, Size
from stk.data.example import Example
from stk.data.noise.fragment import fragment
from stk.data.noise.masking import BERT_MIX, Mix, corrupt
from stk.data.noise.symbols import symbols_of
from stk.modules.rows import Rows
from stk.objectives.base import CollateContext, Context, Sum
from stk.objectives.corrupted import Corrupted, CorruptedObjective
from stk.objectives.cross_entropy import logit_sums
from stk.objectives.monolingual import MonolingualConfig
from stk.objectives.sequence import SequenceBatch, weight_of
from stk.ops import pack_prefix


@dataclass(frozen=True, kw_only=True)
class MassConfig(MonolingualConfig):
    """Configuration of :class:`Mass`: ``share`` of the tokens form the hidden fragment, of which
    ``mix`` become the mask and a random token."""

    share: float = 0.5
    mix: Mix = BERT_MIX

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError("share must lie in (0, 1]")
        if min(self.mix) < 0 or sum(self.mix) > 1:
            raise ValueError("mix: shares must not be negative nor add up to more than 1")


@dataclass(frozen=True, kw_only=True)
class MassBatch(SequenceBatch, Movable):
    """A corrupted text and its fragment.

    Attributes:
        places: ``(B, U)`` int64, where the decoder's tokens stand in the whole sentence.
        shown: ``(B, S)`` boolean, True = real and not masked: what the decoder attends to.
    """

    places: torch.Tensor
    shown: torch.Tensor


class Mass(CorruptedObjective[MassConfig]):
    """Writes the fragment that is hidden in what the encoder reads.

    The decoder reads the tokens before each one of the fragment, at the positions they have in
    the whole sentence, and sees of the encoder what is not the mask. Sums ``loss`` per
    ``tokens``, and the metric ``accuracy``.
    """

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the text: what is read is shifted by one, not longer."""
        return len(self.ids(example, context))

    def collate(self, items: Sequence[Item], context: CollateContext) -> MassBatch:
        """Fragments; every row's generator draws its own."""
        vocab = self.vocab(context)
        symbols = symbols_of(vocab)
        rows, begins = [], []
        for item in items:
            tokens = np.asarray(self.ids(item.example, context), dtype=np.int64)
            begin, end = fragment(len(tokens), item.rng, share=self.config.share)
            hidden = corrupt(tokens, np.arange(begin, end), item.rng, symbols, self.config.mix)
            whole = [vocab.bos, *tokens.tolist()]
            rows.append(Corrupted(hidden.tolist(), whole[begin:end], whole[begin + 1 : end + 1]))
            begins.append(begin)
        batch = self.pad(items, rows, context)
        assert batch.target is not None
        source, width = batch.source, batch.target.inputs.data.shape[1]
        real = Rows(source.lengths, source.data.shape[1], pack=False).mask()
        last = source.data.shape[1] - 1  # padding stays among the positions that exist
        places = torch.tensor(begins)[:, None] + torch.arange(width)
        return MassBatch(
            ids=batch.ids,
            source=source,
            target=batch.target,
            sizes=batch.sizes,
            places=places.clamp(max=last),
            shown=real & (source.data != vocab.mask),
        )

    def forward(self, model: Any, batch: MassBatch, context: Context) -> dict[str, Sum]:
        """``loss``, ``nll`` and ``accuracy``."""
        target = batch.target
        assert target is not None
        encoded = model.encode(batch.source)
        packed = pack_prefix(encoded.states, batch.shown)
        seen = replace(encoded, states=packed.states, lengths=packed.lengths)
        inputs = target.inputs
        states = model.decode_states(seen, inputs.data, inputs.lengths, places=batch.places)
        logits = model.project(states.flatten(0, 1).index_select(0, target.places))
        weight = weight_of(self.config.weight, context.scalars)
        return logit_sums(logits, target.labels, 0.0, weight, consume=True)
