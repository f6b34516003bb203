"""Sentences of a document joined into rows of bounded length (Liu et al., 2020)."""

from __future__ import annotations

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


def _count(example: Example, side: str, vocab: Vocab, limit: int) -> int:
    """Tokens of a sentence with its end symbol."""
    sentence = _sentence(example, side)
    if not sentence:
        raise StkError(f"example {example.id!r} lacks {side}", file=example.file, row=example.row)
    count = len(vocab.encode(sentence)) + 1
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
