"""Random aligned substitution (Lin et al., 2020): words become translations from lexicons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stk.data.lexicon import Lexicon, load_lexicon
from stk.errors import StkError

_WORD = re.compile(r"([^\W_]+(?:['\u2019\-][^\W_]+)*)")


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
        self._tables: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {}
        for language, others in lexicons.items():
            table: dict[str, list[tuple[str, ...]]] = {}
            for other in sorted(others):
                for word, found in others[other].items():
                    table.setdefault(word, []).append(found)
            self._tables[language] = {word: tuple(found) for word, found in table.items()}

    def __call__(self, text: str, language: str, generator: np.random.Generator) -> str:
        """The text of a language, with words replaced; a language without lexicons stays."""
        table = self._tables.get(language)
        if not table:
            return text
        parts, found, get = text.split(" "), [], table.get
        cut: dict[int, list[str]] = {}  # parts that are not one word; words stand at odd places
        for i, part in enumerate(parts):  # in line what _look_up does: most time goes here
            if part.isalnum():
                languages = get(part)
                if languages is None and not part.islower():
                    languages = get(part.lower())
                if languages is not None:
                    found.append((parts, i, languages))
            elif part:
                pieces = cut[i] = _WORD.split(part)
                for k in range(1, len(pieces), 2):
                    languages = _look_up(table, pieces[k])
                    if languages is not None:
                        found.append((pieces, k, languages))
        drawn = generator.random(len(found)).tolist()
        chosen = [one for one, number in zip(found, drawn, strict=True) if number < self.rate]
        draws = iter(generator.random(2 * len(chosen)).tolist())  # a word takes two
        for (words, i, languages), which, choice in zip(chosen, draws, draws, strict=True):
            candidates = languages[int(which * len(languages))]
            word = candidates[int(choice * len(candidates))]
            words[i] = word[0].upper() + word[1:] if words[i][0].isupper() else word
        for i, pieces in cut.items():
            parts[i] = "".join(pieces)
        return " ".join(parts)

    def covers(self, word: str, language: str) -> bool:
        """Whether some lexicon has this word of a language."""
        return _look_up(self._tables.get(language, {}), word) is not None


def _look_up(
    table: Mapping[str, tuple[tuple[str, ...], ...]], word: str
) -> tuple[tuple[str, ...], ...] | None:
    return table.get(word) or (None if word.islower() else table.get(word.lower()))


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
