"""mRASP: translation from sources with randomly substituted words (Lin et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from stk.data.batch import Item
from stk.data.example import Example
from stk.data.substitution import Substitution, load_substitution
from stk.objectives.base import CollateContext
from stk.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from stk.objectives.monolingual import language_field
from stk.objectives.sequence import SequenceBatch


@dataclass(frozen=True, kw_only=True)
class MraspConfig(CrossEntropyConfig):
    """Configuration of :class:`Mrasp`.

    ``lexicons`` maps pairs such as ``en-de`` to files that :func:`stk.data.lexicon.load_lexicon`
    reads; of the words they cover ``substitute`` are replaced in training.
    """

    lexicons: dict[str, str] = field(default_factory=dict)
    substitute: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source == "audio":
            raise ValueError("source must be a text")
        if not self.lexicons:
            raise ValueError("lexicons: name at least one, such as {en-de: en-de.tsv}")
        if not 0.0 <= self.substitute <= 1.0:
            raise ValueError("substitute must lie in [0, 1]")


class Mrasp(CrossEntropy):
    """Cross-entropy of an untouched target given a source with substituted words.

    Every row's generator draws its substitutions, so they are new in every epoch and the same in
    every run. Tags stay: they are no part of the text. In validation nothing is substituted.
    Sizes are of the original text, and translations may have a few pieces more.
    """

    config: MraspConfig

    def __init__(self, config: MraspConfig) -> None:
        super().__init__(config)
        language = language_field(config.source)
        self.needs = self.needs | {language}  # type: ignore[misc]

    @cached_property
    def substitution(self) -> Substitution:
        """What replaces words; the lexicons are read once, and never by decoding.

        Raises:
            StkError: a lexicon that is missing, damaged or empty.
        """
        return load_substitution(self.config.lexicons, rate=self.config.substitute)

    def require(self, example: Example) -> None:
        """Raise unless every field needed is there and the lexicons can be read.

        Raises:
            StkError: names the file, the row and the field; or the lexicon.
        """
        super().require(example)
        assert self.substitution is not None

    def collate(self, items: Sequence[Item], context: CollateContext) -> SequenceBatch:
        """Source with substitutions, decoder input and labels."""
        if context.training:
            items = [self._substituted(item) for item in items]
        return super().collate(items, context)

    def _substituted(self, item: Item) -> Item:
        field_name = self.config.source
        text = getattr(item.example, field_name)
        language = getattr(item.example, language_field(field_name))
        changed = self.substitution(text, language, item.rng)
        fields: dict[str, Any] = {field_name: changed}
        return replace(item, example=replace(item.example, **fields))
