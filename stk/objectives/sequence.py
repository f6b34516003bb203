"""What objectives over one source share: its size, its collation, and their batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from stk.data.batch import Batch, Item, Padded, Source
from stk.data.example import Example
from stk.objectives import task
from stk.objectives.base import CollateContext, Objective

if TYPE_CHECKING:
    from stk.data.vocab import Vocab

C = TypeVar("C", bound=task.SourceConfig)

Weight = float | str
"""A factor in the total loss, or the name of one of the run's scheduled scalars."""


@dataclass(frozen=True, kw_only=True)
class SequenceBatch(Batch):
    """A source with what is to be read off it.

    Attributes:
        source: what the encoder reads.
        target: decoder input and labels, or None.
        ctc: ``(B, S)`` int64 CTC labels without blanks, or None.
        sizes: what :meth:`stk.objectives.base.Objective.counts` returns.
    """

    source: Source
    target: task.TargetTokens | None = None
    ctc: Padded | None = None
    sizes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Written:
    """Output ids as text.

    Attributes:
        text: what the task is about: the translation, or the transcript where that is all.
        transcript: what was heard, where the same output says it; else None.
        separated: whether the tag between the two was written; None where there is none.
    """

    text: str
    transcript: str | None = None
    separated: bool | None = None


class SequenceObjective(Objective, Generic[C]):
    """Base of objectives that read one source and name one text as what decoding writes.

    Args:
        config: its configuration.
    """

    texts: ClassVar[tuple[str, ...]] = ()
    """Names of the configuration keys that hold a text field which must not be empty."""

    written_tags: tuple[str, ...] = ()
    """Tags of the target vocabulary that the decoder itself writes; decoding forbids all others."""

    def __init__(self, config: C) -> None:
        self.config = config
        self.reads_audio = config.source == "audio"
        fields = {config.source, *(getattr(config, key) for key in self.texts)}
        written = (getattr(config, "prefix", "none"), getattr(config, "begin", "bos"))
        read = () if self.reads_audio else (config.source_prefix, config.source_suffix)
        for prefix in (*read, *written):
            fields |= task.prefix_fields(prefix)
        self.needs = frozenset(fields)  # type: ignore[misc]

    def require(self, example: Example) -> None:
        """Raise unless every field needed is there, and no text is empty.

        Raises:
            StkError: names the file, the row and the field.
        """
        super().require(example)
        for field in sorted(self.needs & {"src_text", "tgt_text"}):
            task.require_text(example, field)

    def collate_source(self, items: Sequence[Item], context: CollateContext) -> Source:
        """What the encoder reads, padded; decoding uses it too."""
        return task.collate_source(items, self.config, context)

    def prefix_ids(self, example: Example, context: CollateContext) -> list[int]:
        """Target tokens forced at the start of decoding, after bos; empty without a prefix."""
        config: Any = self.config
        if not isinstance(config, task.TargetConfig):
            return []
        return task.prefix_ids(example, task.vocab_of(context, config.target_view), config.prefix)

    def frame_ids(self, example: Example, context: CollateContext) -> tuple[int, int]:
        """What the decoder reads first, and what ends its output."""
        config: Any = self.config
        if not isinstance(config, task.TargetConfig):
            raise ValueError("this task writes nothing with the decoder")
        vocab = task.vocab_of(context, config.target_view)
        begin = task.begin_id(example, vocab, config)
        return begin, begin if config.end == "begin" else vocab.eos

    def read(self, ids: Sequence[int], vocab: Vocab) -> Written:
        """Text of what the decoder wrote after the prefix; of a document a sentence a line."""
        if getattr(self.config, "end", "eos") == "eos":
            return Written(vocab.decode(ids))
        sentences: list[list[int]] = [[]]
        for index in ids:
            if index == vocab.eos:
                sentences.append([])
            else:
                sentences[-1].append(index)
        texts = [vocab.decode(sentence) for sentence in sentences if sentence]
        return Written("\n".join(texts))

    def counts(self, batch: Batch) -> dict[str, float]:
        """``examples``, and ``tokens`` and ``ctc_tokens`` as far as the objective has them."""
        assert isinstance(batch, SequenceBatch)
        return dict(batch.sizes)


def weight_of(weight: Weight, scalars: Mapping[str, float]) -> float:
    """The value of a weight at this step.

    Raises:
        ValueError: it names a scalar that the run does not schedule.
    """
    if not isinstance(weight, str):
        return weight
    if weight not in scalars:
        raise ValueError(f"weight {weight!r} is not among the run's scalars: {sorted(scalars)}")
    return scalars[weight]
