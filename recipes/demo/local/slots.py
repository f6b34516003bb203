"""Slots of phrase templates: each draws a value and says it in every language.

A value that is a *numeral* (anything but small integers, weekdays, countries and nouns) is either
held out or not, by a hash of the value: :func:`is_held_out`. Training draws those that are not,
the test set those that are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Protocol

import spelling

SMALL = 20
"""Integers up to this one are words of their own; they cannot be held out and still be known."""

HELD_OUT_SHARE = 8
"""One numeral in so many is held out."""


def is_held_out(numeral: str) -> bool:
    """Whether training never has this numeral: a fixed pseudo-random eighth of all."""
    return zlib.crc32(numeral.encode()) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Said:
    """What a slot became in one phrase.

    Attributes:
        texts: language (and ``language.form`` for other cases) -> words.
        numerals: what this value holds that could be held out.
    """

    texts: Mapping[str, str]
    numerals: tuple[str, ...] = ()


class Slot(Protocol):
    """Draws one value; ``held_out`` says from which side numerals come."""

    def draw(self, rng: Random, held_out: bool) -> Said:
        """A value of this slot, said in every language."""
        ...


def say(spell: Callable[..., str], *values: object) -> dict[str, str]:
    """One value in every language."""
    return {lang: spell(*values, lang) for lang in spelling.LANGUAGES}


def numeral_of(n: int) -> tuple[str, ...]:
    """The numeral of an integer: none for small ones. Cardinal, ordinal and year count as one."""
    return (str(n),) if n > SMALL else ()


@dataclass(frozen=True)
class Integers:
    """Whole numbers ``lowest..highest``; where both sides exist, half the draws are below 100.

    ``plural`` leaves out numbers that end in one: their form agrees with the noun's gender in
    three of the languages ("vingt et une", "veintiún").
    """

    lowest: int
    highest: int
    plural: bool = False
    spell: Callable[[int, str], str] = spelling.cardinal

    @cached_property
    def _sides(self) -> dict[bool, tuple[list[int], list[int]]]:
        sides: dict[bool, tuple[list[int], list[int]]] = {False: ([], []), True: ([], [])}
        for n in range(self.lowest, self.highest + 1):
            if self.plural and (n % 10 == 1 and n != 11):
                continue
            out = bool(numeral_of(n)) and is_held_out(str(n))
            sides[out][n >= 100].append(n)
        return sides

    def number(self, rng: Random, held_out: bool) -> int:
        """Draw the number itself."""
        low, high = self._sides[held_out]
        if not (low or high):  # a range of small numbers: nothing in it can be held out
            low, high = self._sides[False]
        pool = low if low and (not high or rng.random() < 0.5) else high
        return rng.choice(pool)

    def draw(self, rng: Random, held_out: bool) -> Said:
        """See :class:`Slot`. German ordinals also come with the endings -n and -r."""
        n = self.number(rng, held_out)
        texts = say(self.spell, n)
        if self.spell is spelling.ordinal:
            texts |= {"de.n": texts["de"] + "n", "de.r": texts["de"] + "r"}
        return Said(texts, numeral_of(n))


@dataclass(frozen=True)
class Tuples:
    """Values that are held out as a whole: times of day, dates, decimals."""

    kind: str
    values: Sequence[tuple[int, ...]]
    spell: Callable[..., str]
    forms: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    @cached_property
    def _sides(self) -> dict[bool, list[tuple[tuple[int, ...], str]]]:
        sides: dict[bool, list[tuple[tuple[int, ...], str]]] = {False: [], True: []}
        for value in self.values:
            numeral = f"{self.kind}:{'-'.join(map(str, value))}"
            sides[is_held_out(numeral)].append((value, numeral))
        return sides

    def draw(self, rng: Random, held_out: bool) -> Said:
        """See :class:`Slot`."""
        value, numeral = rng.choice(self._sides[held_out])
        texts = say(self.spell, *value)
        for form, change in self.forms.items():
            texts[form] = change(texts[form.split(".")[0]])
        return Said(texts, (numeral,))


@dataclass(frozen=True)
class Counted:
    """A number with a unit or a span of time: "forty-seven meters", "three days ago"."""

    number: Integers
    units: Sequence[str]
    spell: Callable[[int, str, str], str]
    sign: int = 1

    def draw(self, rng: Random, held_out: bool) -> Said:
        """See :class:`Slot`."""
        n = self.number.number(rng, held_out)
        return Said(say(self.spell, self.sign * n, rng.choice(self.units)), numeral_of(n))


@dataclass(frozen=True)
class Choice:
    """One of some named things: words of each language, or values that ``spell`` says."""

    values: Sequence[Mapping[str, str] | str | int]
    spell: Callable[..., str] | None = None

    def draw(self, rng: Random, held_out: bool) -> Said:
        """See :class:`Slot`."""
        value = rng.choice(self.values)
        if isinstance(value, Mapping):
            return Said(value)
        assert self.spell is not None
        return Said(say(self.spell, value))


@dataclass(frozen=True)
class Addition:
    """ "seven plus twelve is nineteen": the sum follows from what is drawn."""

    number: Integers

    def draw(self, rng: Random, held_out: bool) -> Said:
        """See :class:`Slot`."""
        a, b = self.number.number(rng, held_out), self.number.number(rng, held_out)
        words = {"en": ("plus", "is"), "de": ("plus", "ist"), "fr": ("plus", "font")}
        words["es"] = ("más", "son")
        texts = {
            lang: f"{spelling.cardinal(a, lang)} {plus} {spelling.cardinal(b, lang)} "
            f"{equals} {spelling.cardinal(a + b, lang)}"
            for lang, (plus, equals) in words.items()
        }
        return Said(texts, numeral_of(a) + numeral_of(b) + numeral_of(a + b))
