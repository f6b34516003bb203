"""Sentence pairs of documents joined into rows that neither side exceeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from stk.cli.data import main as stk_data
from stk.data.example import Example
from stk.data.manifest import Manifest, write_manifest
from stk.data.packing import pack_pairs
from stk.data.vocab import CharVocab
from stk.errors import StkError

VOCAB = CharVocab.of_texts(["ab cd"], ("de", "en"))


def rows(texts: list[tuple[str, str]], doc: str | None = "d") -> list[Example]:
    return [
        Example(id=f"{doc}{i}", doc=doc, src_text=s, src_lang="de", tgt_text=t, tgt_lang="en")
        for i, (s, t) in enumerate(texts)
    ]


def packed(examples: list[Example], limit: int) -> list[tuple[str, str | None, str | None]]:
    return [(e.id, e.src_text, e.tgt_text) for e in pack_pairs(examples, VOCAB, VOCAB, limit=limit)]


def test_neither_side_exceeds_the_limit() -> None:
    pairs = [("ab", "abcd"), ("cd", "a"), ("a", "abcdab"), ("b", "b")]
    # an end symbol a sentence and one symbol a row: the target of the first three has 5 + 2 + 7
    assert packed(rows(pairs), 14) == [("d0", "ab\ncd", "abcd\na"), ("d2", "a\nb", "abcdab\nb")]
    assert packed(rows(pairs), 17) == [("d0", "ab\ncd\na\nb", "abcd\na\nabcdab\nb")]
    turned = [(t, s) for s, t in pairs]
    assert packed(rows(turned), 14)[0] == ("d0", "abcd\na", "ab\ncd")


def test_documents_and_languages_are_not_mixed() -> None:
    two = [
        *rows([("a", "b")] * 2, "x"),
        *rows([("a", "b")] * 2, "y"),
        *rows([("a", "b")] * 2, None),
    ]
    assert [(i, s) for i, s, _ in packed(two, 99)] == [
        ("x0", "a\na"), ("y0", "a\na"), ("None0", "a"), ("None1", "a"),
    ]  # fmt: skip
    mixed = rows([("a", "b")]) + [Example(id="z", doc="d", src_text="a", src_lang="de",
                                          tgt_text="b", tgt_lang="de")]  # fmt: skip
    assert len(packed(mixed, 99)) == 2


def test_sentences_that_do_not_fit() -> None:
    with pytest.raises(StkError, match="'d0' has 6 tokens, more than a row of 6 holds"):
        packed(rows([("a", "abcda")]), 6)
    with pytest.raises(StkError, match="'d0' lacks tgt_text"):
        packed(rows([("a", " ")]), 6)


def test_command(tmp_path: Path) -> None:
    VOCAB.save(tmp_path / "vocab")
    write_manifest(tmp_path / "in.jsonl", rows([("ab", "cd"), ("a", "b")]))
    out = tmp_path / "out.jsonl"
    common = [
        "pack",
        str(tmp_path / "in.jsonl"),
        "--vocab",
        str(tmp_path / "vocab"),
        "--out",
        str(out),
    ]
    assert stk_data([*common, "--field", "both"]) == 0
    (row,) = Manifest(out)
    assert (row.src_text, row.tgt_text, row.doc) == ("ab\na", "cd\nb", "d")
    assert stk_data([*common, "--field", "tgt_text", "--limit", "4"]) == 0
    assert [(row.src_text, row.tgt_text) for row in Manifest(out)] == [(None, "cd"), (None, "b")]
    assert stk_data([*common, "--limit", "3"]) == 1
