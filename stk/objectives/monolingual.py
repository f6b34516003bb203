"""What objectives over one text share: its sentences, its language, batches of hidden tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from stk.data.batch import Batch, Padded, Size, Source
from stk.data.example import Example
from stk.data.vocab import Vocab
from stk.objectives import task
from stk.objectives.base import CollateContext, Objective, Sum
from stk.objectives.cross_entropy import logit_sums
from stk.objectives.sequence import Weight


@dataclass(frozen=True, kw_only=True)
class MonolingualConfig:
    """One text of an example, seen through the vocabulary ``view``.

    Sentences of a document are lines of the text; each ends with the end symbol. ``languages``
    hands the model the text's language, for language embeddings. ``weight`` may name a scheduled
    scalar of the run.
    """

    text: task.TextField = "src_text"
    view: str = "src"
    languages: bool = False
    weight: Weight = 1.0


@dataclass(frozen=True, kw_only=True)
class LanguageModellingConfig(MonolingualConfig):
    """Configuration of language modelling.

    With ``continuous`` a row is a piece of a stream, as ``stk-data pack --continuous`` cuts them:
    end symbols stand for line ends alone, so a text that ends within a sentence has none there.
    """

    continuous: bool = False


C = TypeVar("C", bound=MonolingualConfig)
L = TypeVar("L", bound=LanguageModellingConfig)


@dataclass(frozen=True, kw_only=True)
class TokenBatch(Batch):
    """A text to read and tokens to name.

    Attributes:
        source: what is read.
        places: ``(N,)`` int64, where in the flattened ``B * S`` a label stands.
        labels: ``(N,)`` int64.
        sizes: counts.
    """

    source: Source
    places: Tensor
    labels: Tensor
    sizes: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """One row of a :class:`TokenBatch`; ``places`` are counted within the row."""

    ids: Sequence[int]
    places: Sequence[int]
    labels: Sequence[int]
    languages: Sequence[int] | None = None
    positions: Sequence[int] | None = None


class MonolingualObjective(Objective, Generic[C]):
    """Base of objectives over one text of every example.

    Args:
        config: its configuration.
    """

    def __init__(self, config: C) -> None:
        self.config = config
        self.needs = frozenset(  # type: ignore[misc]
            {config.text, *({language_field(config.text)} if self.reads_language else ())}
        )

    @property
    def reads_language(self) -> bool:
        """Whether the text's language is needed."""
        return self.config.languages

    def require(self, example: Example) -> None:
        """Raise unless every field needed is there, and the text is not empty.

        Raises:
            StkError: names the file, the row and the field.
        """
        super().require(example)
        for field in sorted(self.needs & {"src_text", "tgt_text"}):
            task.require_text(example, field)

    def vocab(self, context: CollateContext) -> Vocab:
        """The vocabulary of the view."""
        return task.vocab_of(context, self.config.view)

    def ids(self, example: Example, context: CollateContext) -> list[int]:
        """The text: of every sentence its pieces and the end symbol."""
        return sentences(getattr(example, self.config.text), self.vocab(context))

    def language(self, example: Example, context: CollateContext) -> int:
        """Row of the text's language in tables of language embeddings."""
        return language_id(getattr(example, language_field(self.config.text)), self.vocab(context))

    def size(self, example: Example, context: CollateContext) -> Size:
        """Tokens of the text and one more."""
        return Size(tokens=len(self.ids(example, context)) + 1)

    def counts(self, batch: Batch) -> dict[str, float]:
        """``examples`` and ``tokens``, those that are to be named."""
        sizes: Mapping[str, float] = batch.sizes  # type: ignore[attr-defined]
        return dict(sizes)


class LanguageModelling(MonolingualObjective[L]):
    """Base of objectives that may read pieces of a stream."""

    def ids(self, example: Example, context: CollateContext) -> list[int]:
        """The text's pieces, an end symbol after every sentence that ends in the row."""
        ids = super().ids(example, context)
        ends = not self.config.continuous or getattr(example, self.config.text).endswith("\n")
        return ids if ends else ids[:-1]


def language_field(text: str) -> str:
    """The field that names the language of a text field."""
    return "src_lang" if text == "src_text" else "tgt_lang"


def language_id(language: str, vocab: Vocab) -> int:
    """Row of a language in tables of language embeddings: its number among the tags.

    Raises:
        StkError: the vocabulary has no such tag.
    """
    return vocab.tag(language) - vocab.mask - 1


def sentences(text: str, vocab: Vocab) -> list[int]:
    """Ids of a text, an end symbol after every line that is not empty."""
    return task.lines(text, vocab)


def token_batch(names: Sequence[str], rows: Sequence[Row]) -> TokenBatch:
    """Pad rows and flatten their labels; what one row has of languages or positions all have."""
    padded = Padded.stack([row.ids for row in rows])
    width = padded.data.shape[1]
    places = [i * width + place for i, row in enumerate(rows) for place in row.places]
    labels = [label for row in rows for label in row.labels]
    languages = [row.languages for row in rows if row.languages is not None]
    positions = [row.positions for row in rows if row.positions is not None]
    return TokenBatch(
        ids=tuple(names),
        source=Source(
            padded.data,
            padded.lengths,
            positions=Padded.stack(positions).data if positions else None,
            languages=Padded.stack(languages).data if languages else None,
        ),
        places=torch.tensor(places, dtype=torch.int64),
        labels=torch.tensor(labels, dtype=torch.int64),
        sizes={"examples": len(rows), "tokens": len(labels)},
    )


def token_sums(model: Any, states: Tensor, batch: TokenBatch, weight: float) -> dict[str, Sum]:
    """``loss``, ``nll`` and ``accuracy`` per ``tokens``, given states ``(B, S, D)``."""
    logits = model.project(states.flatten(0, 1).index_select(0, batch.places))
    return logit_sums(logits, batch.labels, 0.0, weight, consume=True)
