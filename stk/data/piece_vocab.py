"""Vocabularies that come with models of other libraries, with ids in stk's order.

SentencePiece and WordPiece models as they are; what they call padding, unknown, begin, end and mask
has the shared first ids, their languages follow as tags, and then their pieces in their order.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Sequence
from typing import Any, Self

import sentencepiece

from stk.data.vocab import MASK, SPECIALS, UNK, UNK_SURFACE, BaseVocab
from stk.errors import StkError

_LONGEST = 100
"""A word of more characters is unknown, as in BERT."""


class _Pieces(BaseVocab):
    """What both kinds share: ids of pieces."""

    def __init__(self, pieces: Sequence[str], tags: Sequence[str], content: bytes) -> None:
        if len(set(pieces)) != len(pieces):
            raise StkError("pieces repeat")
        super().__init__(tags, content)
        self._first = MASK + 1 + len(self.tags)
        self._pieces = [*SPECIALS, *(f"<{tag}>" for tag in self.tags), *pieces]
        self._ids = {piece: self._first + i for i, piece in enumerate(pieces)}

    def __len__(self) -> int:
        return len(self._pieces)

    def _shown(self, ids: Sequence[int], unknown: str) -> list[str]:
        """Pieces of ids of text, and ``unknown`` for unk; other specials and tags are dropped."""
        for index in ids:
            self._check(index, len(self))
        return [
            unknown if i == UNK else self._pieces[i] for i in ids if i == UNK or i >= self._first
        ]

    def _lacks(self) -> str:
        return f"the imported model knows {', '.join(self.tags) or 'no languages'}"


class PieceVocab(_Pieces):
    """Pieces of a SentencePiece model, in an order of their own (XLM-R, mBART, Marian).

    Args:
        model: the serialised SentencePiece model that cuts text into pieces.
        pieces: pieces that have an id, in order; what else the model finds is unk.
        tags: names of the tags in order.

    Raises:
        StkError: not a SentencePiece model, or a piece that repeats.
    """

    kind = "pieces"

    def __init__(self, model: bytes, pieces: Sequence[str], tags: Sequence[str] = ()) -> None:
        packed = {"pieces": list(pieces), "model": base64.b64encode(model).decode()}
        super().__init__(pieces, tags, json.dumps(packed, ensure_ascii=False).encode())
        self._load()

    def _load(self) -> None:
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            packed = json.loads(self._content)["model"]
            self._model.LoadFromSerializedProto(base64.b64decode(packed))
        except RuntimeError as error:
            raise StkError(f"not a SentencePiece model: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos."""
        return [self._ids.get(piece, UNK) for piece in self._model.encode(text, out_type=str)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; specials and tags are dropped, unk reads as U+2047."""
        text = str(self._model.decode_pieces(self._shown(ids, f" {UNK_SURFACE} ")))
        return " ".join(text.replace("\u2581", " ").split())

    def piece(self, index: int) -> str:
        """The piece an id stands for."""
        self._check(index, len(self))
        return self._pieces[index]

    @classmethod
    def file_name(cls) -> str:
        """Name of the file of pieces and model."""
        return "pieces.json"

    @classmethod
    def from_content(cls, content: bytes, tags: Sequence[str]) -> Self:
        """Rebuild from what :meth:`save` wrote."""
        packed = json.loads(content)
        return cls(base64.b64decode(packed["model"]), packed["pieces"], tags)


class WordPieceVocab(_Pieces):
    """Word pieces, longest first from the left (Devlin et al., 2019).

    Text is cleaned of control characters and cut at spaces, punctuation and CJK characters.

    Args:
        pieces: pieces in order; ``##`` before those that continue a word.
        lower: whether text is put into lower case and loses its accents.
        tags: names of the tags in order.
    """

    kind = "wordpiece"

    def __init__(self, pieces: Sequence[str], lower: bool, tags: Sequence[str] = ()) -> None:
        packed = {"pieces": list(pieces), "lower": lower}
        super().__init__(pieces, tags, json.dumps(packed, ensure_ascii=False).encode())
        self.lower = lower

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without bos and eos."""
        return [index for word in split_words(text, self.lower) for index in self._word(word)]

    def _word(self, word: str) -> list[int]:
        found: list[int] = []
        begin = 0
        while begin < len(word) <= _LONGEST:
            mark = "##" if begin else ""
            for end in range(len(word), begin, -1):
                index = self._ids.get(mark + word[begin:end])
                if index is not None:
                    break
            else:
                return [UNK]
            found.append(index)
            begin = end
        return found or [UNK]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; specials and tags are dropped, unk reads as U+2047."""
        return " ".join(self._shown(ids, UNK_SURFACE)).replace(" ##", "")

    def piece(self, index: int) -> str:
        """The piece an id stands for, with U+2581 where a word begins."""
        self._check(index, len(self))
        piece = self._pieces[index]
        if index < self._first:
            return piece
        return piece[2:] if piece.startswith("##") else "\u2581" + piece

    @classmethod
    def file_name(cls) -> str:
        """Name of the file of pieces."""
        return "wordpieces.json"

    @classmethod
    def from_content(cls, content: bytes, tags: Sequence[str]) -> Self:
        """Rebuild from what :meth:`save` wrote."""
        packed = json.loads(content)
        return cls(packed["pieces"], packed["lower"], tags)


def split_words(text: str, lower: bool) -> list[str]:
    """Words, punctuation marks and CJK characters of a text, as BERT cuts it."""
    out: list[str] = []
    for char in unicodedata.normalize("NFD", text.lower()) if lower else text:
        category = unicodedata.category(char)
        if char.isspace():
            out.append(" ")
        elif (lower and category == "Mn") or category[0] == "C" or char == "\ufffd":
            continue
        elif _is_mark(char, category) or _is_cjk(ord(char)):
            out.append(f" {char} ")
        else:
            out.append(char)
    return "".join(out).split()


def _is_mark(char: str, category: str) -> bool:
    """Punctuation, and every sign of ASCII that is neither letter nor digit."""
    return category[0] == "P" or (char.isascii() and not char.isalnum())


_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def _is_cjk(code: int) -> bool:
    return any(first <= code <= last for first, last in _CJK)
