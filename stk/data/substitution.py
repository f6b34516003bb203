"""Random aligned substitution (Lin et al., 2020): words become translations from lexicons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stk.data.lexicon import Lexicon, load_lexicon
from stk.errors import StkError

_WORD = re.compile(r"([^\W_]+(?:['\u2019\-][^\W_]+)*)")

Languages = tuple[tuple[str, ...], ...]
"""Translations of a word, those of one language in each tuple."""

_REMEMBERED, _LONGEST = 1 << 16, 32
"""Parts of texts of which a language remembers what they hold, and their characters: at most some
20 MB. Longer ones are those of languages without spaces, which hardly ever return."""


def words_of(text: str) -> list[str]:
    """The words of a text: letters and digits, apostrophes and hyphens between them."""
    return _WORD.findall(text)


class Substitution:
    """Replaces covered words of a text by translations, each with its own probability.

    A word is covered if a lexicon has it as it stands or in lower case; the translation of a word
    that begins with a capital letter begins with one. What stands between words, and
    words that no lexicon has, stay as they are. A covered word is replaced with probability
    ``rate``, by a language drawn uniformly from those that have it and one of its translations
    drawn uniformly.

    Args:
        lexicons: language of the text -> other language -> lexicon.
        rate: 0.3 in mRASP, 0.9 in mRASP2.

    Raises:
        ValueError: ``rate`` is not in [0, 1].
    """

    def __init__(self, lexicons: Mapping[str, Mapping[str, Lexicon]], *, rate: float = 0.3) -> None:
        if not 0.0 <= rate <= 1.0:
            raise ValueError("rate must lie in [0, 1]")
        self.rate = rate
        self._held: dict[str, _Held] = {}
        for language, others in lexicons.items():
            table: dict[str, list[tuple[str, ...]]] = {}
            for other in sorted(others):
                for word, found in others[other].items():
                    table.setdefault(word, []).append(found)
            self._held[language] = _Held({word: tuple(found) for word, found in table.items()})

    def __call__(self, text: str, language: str, generator: np.random.Generator) -> str:
        """The text of a language, with words replaced; a language without lexicons stays."""
        held = self._held.get(language)
        if held is None or not held.table:
            return text
        parts = text.split(" ")
        entries = list(map(held.__getitem__, parts))
        numbers = generator.random(len(parts)).tolist()
        # A number for every part, covered or not: few need to be looked at.
        for i in [i for i, number in enumerate(numbers) if number < self.rate]:
            entry = entries[i]
            if type(entry) is tuple:
                parts[i] = _translated(parts[i], entry, numbers[i] / self.rate)
        if _Cut in map(type, entries):
            self._in_pieces(parts, entries, generator)
        return " ".join(parts)

    def _in_pieces(
        self,
        parts: list[str],
        entries: Sequence[Languages | _Cut | None],
        generator: np.random.Generator,
    ) -> None:
        """Replace words of the parts that are more than one word."""
        cut = [(i, entry) for i, entry in enumerate(entries) if type(entry) is _Cut]
        numbers = iter(generator.random(sum(len(entry.covered) for _, entry in cut)).tolist())
        for i, entry in cut:
            pieces = list(entry.pieces)
            for (k, languages), number in zip(entry.covered, numbers, strict=False):
                if number < self.rate:
                    pieces[k] = _translated(pieces[k], languages, number / self.rate)
            parts[i] = "".join(pieces)

    def covers(self, word: str, language: str) -> bool:
        """Whether some lexicon has this word of a language."""
        held = self._held.get(language)
        return held is not None and held.look_up(word) is not None


@dataclass(frozen=True, slots=True)
class _Cut:
    """A part of a text that is more than a word: its pieces, and the covered ones by number."""

    pieces: tuple[str, ...]
    covered: tuple[tuple[int, Languages], ...]


class _Held(dict[str, "Languages | _Cut | None"]):
    """What lexicons hold of a part of a text between spaces; None: nothing.

    Texts repeat their words, so it is remembered: one look-up a word is all that is left of the
    time that substitution takes.
    """

    def __init__(self, table: Mapping[str, Languages]) -> None:
        super().__init__()
        self.table = table

    def __missing__(self, part: str) -> Languages | _Cut | None:
        found = self.look_up(part) if part.isalnum() else self._cut(part)
        if len(self) < _REMEMBERED and len(part) <= _LONGEST:
            self[part] = found
        return found

    def look_up(self, word: str) -> Languages | None:
        """Translations of a word as it stands, or else in lower case."""
        table = self.table
        return table.get(word) or (None if word.islower() else table.get(word.lower()))

    def _cut(self, part: str) -> _Cut | None:
        pieces = tuple(_WORD.split(part))  # words stand at odd places
        looked = ((k, self.look_up(pieces[k])) for k in range(1, len(pieces), 2))
        covered = tuple((k, languages) for k, languages in looked if languages is not None)
        return _Cut(pieces, covered) if covered else None


def _translated(word: str, languages: Languages, number: float) -> str:
    """A translation; ``number``, uniform in [0, 1), chooses its language and which one it is."""
    which = number * len(languages)
    candidates = languages[int(which)]
    chosen = candidates[int(which % 1.0 * len(candidates))]
    return chosen[0].upper() + chosen[1:] if word[0].isupper() else chosen


def load_substitution(paths: Mapping[str, str], *, rate: float) -> Substitution:
    """Substitution from lexicon files.

    Args:
        paths: ``"en-de"`` -> file that :func:`stk.data.lexicon.load_lexicon` reads.
        rate: of replacement.

    Raises:
        StkError: a key that does not name two languages, a lexicon that cannot be read.
    """
    lexicons: dict[str, dict[str, Lexicon]] = {}
    for pair, path in paths.items():
        source, _, target = pair.partition("-")
        if not source or not target:
            raise StkError(f"{pair!r} does not name two languages", mend="such as en-de")
        lexicons.setdefault(source, {})[target] = load_lexicon(Path(path))
    return Substitution(lexicons, rate=rate)
