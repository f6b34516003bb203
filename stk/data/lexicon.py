"""Bilingual lexicons: words of one language and their translations into another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stk.data.atomic import write_text
from stk.data.dictd import dictd_pairs
from stk.errors import StkError


class Lexicon(Mapping[str, tuple[str, ...]]):
    """Word -> its translations, in the order in which they were found.

    Args:
        words: every word with at least one translation.

    Raises:
        StkError: there is no word at all.
    """

    def __init__(self, words: Mapping[str, tuple[str, ...]]) -> None:
        self._words = dict(words)
        if not self._words:
            raise StkError("the lexicon is empty", mend="give pairs of words")

    @classmethod
    def of_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Lexicon:
        """A lexicon of ``(word, translation)`` pairs; repeated ones count once."""
        found: dict[str, dict[str, None]] = {}
        for word, translation in pairs:
            found.setdefault(word, {})[translation] = None
        return cls({word: tuple(others) for word, others in found.items()})

    def __getitem__(self, word: str) -> tuple[str, ...]:
        return self._words[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every ``(word, translation)``."""
        for word, others in self._words.items():
            for other in others:
                yield word, other

    def inverted(self) -> Lexicon:
        """The lexicon of the other direction."""
        return Lexicon.of_pairs((other, word) for word, other in self.pairs())

    def top(self, counts: Mapping[str, int], size: int) -> Lexicon:
        """The ``size`` words that occur most often in a text (mRASP uses 1,000).

        Args:
            counts: word -> occurrences; words that never occur are left out, ties keep the
                lexicon's order.
            size: how many words stay at most.
        """
        used = [word for word in self._words if counts.get(word, 0) > 0]
        used.sort(key=lambda word: -counts[word])
        return Lexicon({word: self._words[word] for word in used[:size]})

    def without(self, words: Iterable[str]) -> Lexicon:
        """The lexicon without some words, such as those held out for a test."""
        gone = set(words)
        return Lexicon({word: found for word, found in self._words.items() if word not in gone})

    def save(self, path: str | Path) -> None:
        """Write ``word<TAB>translation`` lines, UTF-8, whole or not at all."""
        write_text(path, "".join(f"{word}\t{other}\n" for word, other in self.pairs()))


def load_lexicon(path: str | Path) -> Lexicon:
    """Read a lexicon: a dictd ``.index`` with its ``.dict.dz`` or ``.dict`` beside it, or a TSV.

    Lines of a TSV are ``word<TAB>translation``, UTF-8; further columns and empty lines are not
    read. Phrases of several words are left out: a lexicon is of words.

    Raises:
        StkError: a file is missing, damaged or empty, or a line has no tab.
    """
    path = Path(path)
    if not path.is_file():
        raise StkError("no such lexicon", file=path)
    pairs = dictd_pairs(path) if path.suffix == ".index" else _tsv_pairs(path)
    try:
        return Lexicon.of_pairs(pair for pair in pairs if not any(" " in word for word in pair))
    except StkError as error:
        raise StkError(
            error.what, file=error.file or path, row=error.row, mend=error.mend
        ) from None


def load_scored_pairs(path: str | Path) -> list[tuple[str, str, float]]:
    """Read pairs of words that people judged: ``word<TAB>word<TAB>score`` lines, UTF-8.

    A word may be a phrase, as in SemEval-2017 (Camacho-Collados et al., 2017); empty lines are not
    read.

    Raises:
        StkError: the file is missing or not UTF-8, or a line is not two words and a finite score.
    """
    path = Path(path)
    if not path.is_file():
        raise StkError("no such file of scored pairs", file=path)
    pairs = []
    for row, columns in _columns(path):
        try:
            first, second, number = columns
            score = float(number)
        except ValueError:
            score = math.nan
        if not math.isfinite(score) or not first or not second:
            raise StkError(
                "no scored pair of words", file=path, row=row, mend="word<TAB>word<TAB>score"
            )
        pairs.append((first, second, score))
    return pairs


def _columns(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and columns of every line of a TSV that is not empty; white space as one space."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise StkError("not UTF-8", file=path, mend="save the lexicon as UTF-8") from None
    for row, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        yield row, [" ".join(column.split()) for column in line.split("\t")]


def _tsv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for row, columns in _columns(path):
        if len(columns) < 2 or not columns[0] or not columns[1]:
            raise StkError("no pair of words", file=path, row=row, mend="word<TAB>translation")
        yield columns[0], columns[1]
