"""What is wrong with a text or a pair of texts before a model learns from it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from stk.data.example import Example
from stk.data.guess_language import LanguageGuesser
from stk.data.normalise import normalise
from stk.data.substitution import words_of

_LATIN = """
    af ca cs cy da de en eo es et eu fi fr ga gl hr hu id is it la lt lv ms mt nl no pl pt ro sk sl
    sq sv sw tl tr vi
"""

SCRIPTS: dict[str, tuple[str, ...]] = {
    "LATIN": tuple(_LATIN.split()),
    "CYRILLIC": ("be", "bg", "kk", "mk", "ru", "uk"),
    "GREEK": ("el",),
    "ARABIC": ("ar", "fa", "ur"),
    "HEBREW": ("he", "yi"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "ARMENIAN": ("hy",),
    "GEORGIAN": ("ka",),
    "HANGUL": ("ko",),
    "CJK": ("zh",),
    "THAI": ("th",),
}
"""Script, as Unicode names its letters -> languages written in nothing else."""

SCRIPT_OF = {language: script for script, languages in SCRIPTS.items() for language in languages}


def tidy(text: str) -> str:
    """A text with composed characters, without control characters and soft hyphens, and with
    single spaces between words."""
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        kinds = [(char, unicodedata.category(char)) for char in text]
        text = "".join(
            " " if kind in ("Cc", "Zs", "Zl", "Zp") else char
            for char, kind in kinds
            if kind != "Cf"
        )
    return " ".join(text.split())


def script_share(text: str, language: str) -> float | None:
    """Share of a text's letters that are of its language's script, in [0, 1].

    None where the text has no letter, or the language's script is not known (``SCRIPT_OF``).
    A region such as ``pt-BR`` is not looked at.
    """
    script = SCRIPT_OF.get(language.split("-")[0])
    letters = [char for char in text if char.isalpha()]
    if script is None or not letters:
        return None
    return sum(_script(char) == script for char in letters) / len(letters)


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name, which is its script."""
    return unicodedata.name(letter, "").split(" ")[0]


@dataclass(frozen=True, kw_only=True)
class CleaningRules:
    """What a text or a pair must be like to stay.

    ``shortest`` and ``longest`` bound the words of every text. ``ratio`` bounds the longer text's
    words over the shorter's, ``slack`` words more being allowed; 1.5 is usual for distant
    filters, and 2 spares short pairs. ``script`` is the least share of letters in the language's
    own script, ``margin`` how much more likely than the named language another one may be, in
    nats a character.
    """

    shortest: int = 1
    longest: int = 100
    ratio: float = 2.0
    slack: int = 3
    script: float = 0.7
    margin: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest:
            raise ValueError("shortest must be at least 1 and not above longest")
        if self.ratio < 1.0 or self.slack < 0:
            raise ValueError("ratio must be at least 1, slack not negative")
        if not 0.0 <= self.script <= 1.0 or self.margin < 0:
            raise ValueError("script must lie in [0, 1], margin must not be negative")


class Cleaning:
    """Leaves out texts and pairs that break the rules, and counts why.

    Args:
        rules: what they must be like.
        guesser: tells languages apart; without one languages are not checked. A text of fewer
            than five words is not guessed.

    Attributes:
        left_out: reason -> examples left out for it so far.
    """

    def __init__(
        self, rules: CleaningRules | None = None, guesser: LanguageGuesser | None = None
    ) -> None:
        self.rules = rules or CleaningRules()
        self.guesser = guesser
        self.left_out: Counter[str] = Counter()

    def __call__(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that stay, their texts tidied."""
        for example in examples:
            ready = replace(
                example,
                src_text=None if example.src_text is None else tidy(example.src_text),
                tgt_text=None if example.tgt_text is None else tidy(example.tgt_text),
            )
            why = self.why_not(ready)
            if why is None:
                yield ready
            else:
                self.left_out[why] += 1

    def why_not(self, example: Example) -> str | None:
        """Why an example would be left out, in a few words; None if it stays."""
        sides = [
            (text, language)
            for text, language in (
                (example.src_text, example.src_lang),
                (example.tgt_text, example.tgt_lang),
            )
            if text is not None
        ]
        for text, language in sides:
            why = self._text(text, language)
            if why is not None:
                return why
        if len(sides) < 2:
            return None
        if normalise(sides[0][0], "lower") == normalise(sides[1][0], "lower"):
            return "both sides are one text"
        low, high = sorted(len(text.split()) for text, _ in sides)
        if high > self.rules.ratio * low + self.rules.slack:
            return "lengths do not fit"
        return None

    def _text(self, text: str, language: str | None) -> str | None:
        words = len(text.split())
        if words < self.rules.shortest or not words_of(text):
            return "too short"
        if words > self.rules.longest:
            return "too long"
        if language is None:
            return None
        share = script_share(text, language) if self.rules.script > 0 else None
        if share is not None and share < self.rules.script:
            return "another script"
        if self.guesser is not None and words >= 5 and language in self.guesser.languages:
            scores = self.guesser.scores(text)
            if max(scores.values()) > scores[language] + self.rules.margin:
                return "another language"
        return None


def without_shared(
    examples: Iterable[Example], others: Iterable[Example], left_out: Counter[str] | None = None
) -> Iterator[Example]:
    """Examples none of whose texts occurs among others, such as those of a test set.

    Texts are compared in lower case, without punctuation, whatever field they stand in.

    Args:
        examples: to be kept or left out.
        others: what must not occur.
        left_out: gets the number left out, under ``in another split``.
    """
    taken = {normal for example in others for normal in normal_texts(example)}
    for example in examples:
        if taken.isdisjoint(normal_texts(example)):
            yield example
        elif left_out is not None:
            left_out["in another split"] += 1


def distinct(
    examples: Iterable[Example],
    left_out: Counter[str] | None = None,
    key: Callable[[Example], object] | None = None,
) -> Iterator[Example]:
    """Examples whose normalised texts (or ``key``) did not come before."""
    seen: set[object] = set()
    for example in examples:
        mark = key(example) if key is not None else tuple(normal_texts(example))
        if mark not in seen:
            seen.add(mark)
            yield example
        elif left_out is not None:
            left_out["repeated"] += 1


def normal_texts(example: Example) -> list[str]:
    """The example's texts in lower case, without punctuation."""
    texts = (example.src_text, example.tgt_text)
    return [normalise(text, "lower-nopunct") for text in texts if text is not None]
