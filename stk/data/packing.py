"""Sentences of a document joined into rows of bounded length (Liu et al., 2020), and streams of
sentences cut into rows (Conneau and Lample, 2019)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stk.data.example import Example
from stk.errors import StkError

if TYPE_CHECKING:
    from stk.data.vocab import Vocab


def pack_documents(
    examples: Iterable[Example], vocab: Vocab, *, text: str = "src_text", limit: int = 512
) -> Iterator[Example]:
    """Join whole sentences, one a line, until the next would exceed ``limit`` or the document ends.

    A row is counted as training reads it: the pieces of each sentence, an end symbol after each,
    and one symbol for begin or language. Documents (``doc``) and languages are never mixed; an
    example without ``doc`` is a document of its own. A row has the id of its first sentence.

    Args:
        examples: sentences, those of one document in reading order.
        vocab: that training uses.
        text: field to join, ``src_text`` or ``tgt_text``; the other fields of sound and of the
            other text are dropped.
        limit: tokens of a row, 512 in mBART.

    Raises:
        StkError: a sentence that lacks the text, or is alone longer than ``limit``.
    """
    return _pack(examples, {text: vocab}, limit)


def pack_pairs(
    examples: Iterable[Example], source: Vocab, target: Vocab, *, limit: int = 512
) -> Iterator[Example]:
    """Join whole sentence pairs likewise, for document translation: neither side exceeds ``limit``.

    Args:
        examples: sentence pairs, those of one document in reading order.
        source: vocabulary of ``src_text``.
        target: vocabulary of ``tgt_text``.
        limit: tokens of either side of a row.

    Raises:
        StkError: a sentence that lacks a text, or is alone longer than ``limit``.
    """
    return _pack(examples, {"src_text": source, "tgt_text": target}, limit)


def cut_streams(
    examples: Iterable[Example], vocab: Vocab, *, text: str = "src_text", limit: int = 256
) -> Iterator[Example]:
    """Lay the sentences of each language end to end and cut the stream into rows of ``limit``.

    An end symbol stands after every sentence, as the line end after it; a row that ends within a
    sentence has none, and the next one goes on in the middle of it. Objectives with
    ``continuous: true`` read such rows. Words stay whole, so that a row's pieces are those of the
    stream: it has as many words as fit, up to a word fewer than ``limit`` tokens, one for the
    begin symbol counted. Documents are not kept apart. A language's last row is what is left.

    Args:
        examples: sentences of one language or several, each language in reading order.
        vocab: that training uses.
        text: field that is cut, ``src_text`` or ``tgt_text``; a row has it, its language, and an
            id made of the language and the row's number.
        limit: tokens of a row, 256 in XLM.

    Raises:
        StkError: a sentence that lacks the text, or a word alone longer than a row.
    """
    streams: dict[str | None, _Stream] = {}
    for example in examples:
        language = getattr(example, _language(text))
        stream = streams.setdefault(language, _Stream(vocab, text, limit))
        yield from stream.add(example)
    for stream in streams.values():
        yield from stream.flush()


class _Stream:
    """A language's sentences as they come; the rows cut so far are numbered."""

    def __init__(self, vocab: Vocab, side: str, limit: int) -> None:
        self.vocab, self.side, self.limit = vocab, side, limit
        self.first: Example | None = None  # whose sentence, or rest of one, begins the row
        self.text, self.used, self.number = "", 1, 0

    def add(self, example: Example) -> Iterator[Example]:
        """The rows that a further sentence fills."""
        words = _present(example, self.side).split(" ")
        while words:
            count, tokens = self._fitting(words)
            if count == 0 and self.used == 1:
                raise StkError(
                    f"example {example.id!r} has a word of more tokens than a row of {self.limit}: "
                    f"{words[0][:40]!r}",
                    file=example.file,
                    row=example.row,
                    mend="cut longer rows, or put spaces between its words",
                )
            if count:
                self.first = self.first or example
            ended = count == len(words)
            self.text += " ".join(words[:count]) + ("\n" if ended else "")
            self.used, words = self.used + tokens, words[count:]
            if not ended:
                yield from self.flush()

    def _fitting(self, words: Sequence[str]) -> tuple[int, int]:
        """How many words still fit into the row, and their tokens; all only with an end symbol."""
        room = self.limit - self.used
        whole = len(self.vocab.encode(" ".join(words))) + 1
        if whole <= room:
            return len(words), whole

        def tokens(count: int) -> int:
            return len(self.vocab.encode(" ".join(words[:count])))

        count = bisect_right(range(len(words)), room, key=tokens) - 1
        return max(0, count), tokens(max(0, count))

    def flush(self) -> Iterator[Example]:
        """The row as far as it goes, if there is one."""
        if self.first is None:
            return
        self.number += 1
        language = getattr(self.first, _language(self.side))
        kept: dict[str, Any] = {self.side: self.text, _language(self.side): language}
        name = f"{language or 'stream'}-{self.number}"
        yield replace(Example(id=name, file=self.first.file, row=self.first.row), **kept)
        self.first, self.text, self.used = None, "", 1


def _pack(examples: Iterable[Example], sides: Mapping[str, Vocab], limit: int) -> Iterator[Example]:
    rows: list[Example] = []
    used = dict.fromkeys(sides, 1)
    for example in examples:
        counts = {side: _count(example, side, vocab, limit) for side, vocab in sides.items()}
        full = any(used[side] + count > limit for side, count in counts.items())
        if rows and (full or not _same(rows[0], example, sides)):
            yield _row(rows, sides)
            rows, used = [], dict.fromkeys(sides, 1)
        rows.append(example)
        used = {side: used[side] + count for side, count in counts.items()}
    if rows:
        yield _row(rows, sides)


def _sentence(example: Example, side: str) -> str:
    return " ".join((getattr(example, side) or "").split())


def _present(example: Example, side: str) -> str:
    """The sentence, which must be there."""
    sentence = _sentence(example, side)
    if not sentence:
        raise StkError(f"example {example.id!r} lacks {side}", file=example.file, row=example.row)
    return sentence


def _count(example: Example, side: str, vocab: Vocab, limit: int) -> int:
    """Tokens of a sentence with its end symbol."""
    count = len(vocab.encode(_present(example, side))) + 1
    if count + 1 > limit:
        raise StkError(
            f"example {example.id!r} has {count} tokens, more than a row of {limit} holds",
            file=example.file,
            row=example.row,
            mend="split the sentence, or pack longer rows",
        )
    return count


def _language(side: str) -> str:
    return "src_lang" if side == "src_text" else "tgt_lang"


def _same(first: Example, example: Example, sides: Iterable[str]) -> bool:
    """Whether two sentences are of one document and in the same languages."""
    languages = all(getattr(first, _language(s)) == getattr(example, _language(s)) for s in sides)
    return first.doc is not None and first.doc == example.doc and languages


def _row(rows: Sequence[Example], sides: Iterable[str]) -> Example:
    first = rows[0]
    kept: dict[str, Any] = {}
    for side in sides:
        kept[side] = "\n".join(_sentence(row, side) for row in rows)
        kept[_language(side)] = getattr(first, _language(side))
    empty = Example(id=first.id, doc=first.doc, file=first.file, row=first.row)
    return replace(empty, **kept)
