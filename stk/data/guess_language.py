"""Which language a text is in, by its character trigrams (Cavnar and Trenkle, 1994)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from stk.data.example import Example
from stk.errors import StkError

_ORDER = 3
_NO_LETTERS = re.compile(r"[\W\d_]+")


class LanguageGuesser:
    """Naive Bayes over character trigrams, learnt from text whose language is known.

    Args:
        texts: language -> texts, at least one letter each.
        most: trigrams kept a language, the most frequent.

    Raises:
        StkError: a language without text, or fewer than two languages.
    """

    def __init__(self, texts: Mapping[str, Iterable[str]], *, most: int = 4000) -> None:
        counts = {language: _counted(found) for language, found in texts.items()}
        for language, found in counts.items():
            if not found:
                raise StkError(f"no text in {language!r} to learn the language from")
        if len(counts) < 2:
            raise StkError("one language cannot be told from others", mend="give text in two")
        self.languages = tuple(sorted(counts))
        kept = {name: dict(counts[name].most_common(most)) for name in self.languages}
        grams = sorted(set().union(*kept.values()))
        self._index = {gram: row for row, gram in enumerate(grams, 1)}  # row 0: unseen everywhere
        self._table = np.zeros((len(grams) + 1, len(self.languages)))
        for column, name in enumerate(self.languages):
            own = np.array([0, *(kept[name].get(gram, 0) for gram in grams)])
            self._table[:, column] = np.log(own + 1) - math.log(counts[name].total() + most)

    @classmethod
    def of_examples(cls, examples: Iterable[Example]) -> LanguageGuesser:
        """A guesser that learnt from the texts of examples, where they name their language.

        Raises:
            StkError: texts of fewer than two languages.
        """
        texts: dict[str, list[str]] = {}
        for example in examples:
            sides = ((example.src_lang, example.src_text), (example.tgt_lang, example.tgt_text))
            for language, text in sides:
                if language is not None and text is not None:
                    texts.setdefault(language, []).append(text)
        return cls(texts)

    def scores(self, text: str) -> dict[str, float]:
        """Mean log-probability of the text's trigrams in every language (nats, at most 0)."""
        rows = [self._index.get(gram, 0) for gram in _grams(text)]
        means = self._table[rows].mean(axis=0) if rows else np.zeros(len(self.languages))
        return dict(zip(self.languages, means.tolist(), strict=True))

    def guess(self, text: str) -> str:
        """The likeliest language; of equals the first in order of codes."""
        scores = self.scores(text)
        return max(self.languages, key=lambda language: scores[language])


def _grams(text: str) -> list[str]:
    letters = _NO_LETTERS.sub(" ", text.lower()).strip()
    padded = f" {letters} " if letters else ""
    return [padded[i : i + _ORDER] for i in range(len(padded) - _ORDER + 1)]


def _counted(texts: Iterable[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found.update(_grams(text))
    return found
