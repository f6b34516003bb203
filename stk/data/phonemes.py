"""Phonemes as CTC labels: pronunciations of words, and a vocabulary that looks texts up in them.

A lexicon is a text file, a word a line: ``word PHONEME PHONEME ...``, with white space in between,
as in the CMU dictionary. Lines that begin with ``;;;`` are comments; of several pronunciations
(``word(2)``, or the word again) the first counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from stk.data.atomic import write_text
from stk.data.normalise import normalise
from stk.data.vocab import MASK, SPECIALS, UNK, UNK_SURFACE, BaseVocab
from stk.errors import StkError

_VARIANT = re.compile(r"\(\d+\)$")


def words_of(text: str) -> list[str]:
    """The words of a text as lexicons list them: case folded, without punctuation."""
    return normalise(text, "lower-nopunct").split()


def missing_words(texts: Iterable[str], known: Mapping[str, object]) -> Counter[str]:
    """How often the texts use each word that a lexicon lacks."""
    return Counter(word for text in texts for word in words_of(text) if word not in known)


def read_pronunciations(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Word -> phonemes, of a lexicon file in UTF-8.

    Raises:
        StkError: a missing or empty file, other bytes than UTF-8, a line without phonemes.
    """
    path = Path(path)
    if not path.is_file():
        raise StkError("no such lexicon", file=path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise StkError(f"not UTF-8: {error.reason}", file=path) from None
    found: dict[str, tuple[str, ...]] = {}
    for row, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phonemes = line.split()
        if not phonemes:
            raise StkError(
                f"the word {word!r} has no phonemes",
                file=path,
                row=row,
                mend="a line is: word PHONEME PHONEME ...",
            )
        found.setdefault(" ".join(words_of(_VARIANT.sub("", word))), tuple(phonemes))
    if not found:
        raise StkError("the lexicon is empty", file=path)
    return found


def write_pronunciations(path: str | Path, words: Mapping[str, Sequence[str]]) -> None:
    """Write a lexicon file, words in order, whole or not at all."""
    lines = (f"{word}\t{' '.join(words[word])}\n" for word in sorted(words))
    write_text(path, "".join(lines))


class PhonemeVocab(BaseVocab):
    """One id a phoneme; a text becomes the phonemes of its words, words without one become unk.

    Words are looked up without case and punctuation. The ends of words are not marked, so
    :meth:`decode` gives phonemes with spaces between them.

    Args:
        words: word -> its phonemes.
        tags: tags in order.
    """

    kind = "phoneme"

    def __init__(self, words: Mapping[str, Sequence[str]], tags: Sequence[str] = ()) -> None:
        if not words:
            raise StkError("a vocabulary of phonemes needs a lexicon with words")
        self._words = {word: tuple(words[word]) for word in sorted(words)}
        super().__init__(tags, json.dumps(self._words, ensure_ascii=False).encode())
        phonemes = sorted({phoneme for found in self._words.values() for phoneme in found})
        self._first = MASK + 1 + len(self.tags)
        self._pieces = [*SPECIALS, *(f"<{tag}>" for tag in self.tags), *phonemes]
        self._ids = {phoneme: self._first + i for i, phoneme in enumerate(phonemes)}

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], lexicon: Mapping[str, Sequence[str]], tags: Sequence[str] = ()
    ) -> tuple[Self, Counter[str]]:
        """A vocabulary of the words that occur, and the words that the lexicon lacks with counts.

        Raises:
            StkError: the lexicon has none of the words.
        """
        used: set[str] = set()
        missing: Counter[str] = Counter()
        for text in texts:
            for word in words_of(text):
                if word in lexicon:
                    used.add(word)
                else:
                    missing[word] += 1
        if not used:
            raise StkError("the lexicon has no word of these texts")
        return cls({word: lexicon[word] for word in used}, tags), missing

    def __len__(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos."""
        return [label for word in words_of(text) for label in self._labels(word)]

    def _labels(self, word: str) -> Iterator[int]:
        if word not in self._words:
            yield UNK
        else:
            yield from (self._ids[phoneme] for phoneme in self._words[word])

    def decode(self, ids: Sequence[int]) -> str:
        """Phonemes of ids; specials and tags are dropped, unk reads as U+2047."""
        for index in ids:
            self._check(index, len(self))
        kept = (i for i in ids if i == UNK or i >= self._first)
        return " ".join(UNK_SURFACE if i == UNK else self._pieces[i] for i in kept)

    def piece(self, index: int) -> str:
        """The phoneme an id stands for."""
        self._check(index, len(self))
        return self._pieces[index]

    @classmethod
    def file_name(cls) -> str:
        """Name of the file of pronunciations."""
        return "pronunciations.json"

    @classmethod
    def from_content(cls, content: bytes, tags: Sequence[str]) -> Self:
        """Rebuild from what :meth:`save` wrote."""
        return cls(json.loads(content), tags)
