"""Sentences of a document joined into rows of bounded length (Liu et al., 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

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
    language = "src_lang" if text == "src_text" else "tgt_lang"
    lines: list[str] = []
    used, first = 1, None
    for example in examples:
        sentence = " ".join((getattr(example, text) or "").split())
        where = {"file": example.file, "row": example.row}
        if not sentence:
            raise StkError(f"example {example.id!r} lacks {text}", **where)  # type: ignore[arg-type]
        count = len(vocab.encode(sentence)) + 1
        if count + 1 > limit:
            raise StkError(
                f"example {example.id!r} has {count} tokens, more than a row of {limit} holds",
                mend="split the sentence, or pack longer rows",
                **where,  # type: ignore[arg-type]
            )
        same = first is not None and first.doc is not None and first.doc == example.doc
        same = same and getattr(first, language) == getattr(example, language)
        if first is not None and (not same or used + count > limit):
            yield _row(first, text, language, lines)
            lines, used, first = [], 1, None
        first = first or example
        lines.append(sentence)
        used += count
    if first is not None:
        yield _row(first, text, language, lines)


def _row(first: Example, text: str, language: str, lines: list[str]) -> Example:
    kept = {text: "\n".join(lines), language: getattr(first, language)}
    empty = Example(id=first.id, doc=first.doc, file=first.file, row=first.row)
    return replace(empty, **kept)
