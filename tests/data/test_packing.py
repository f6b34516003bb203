"""Sentence pairs of documents joined into rows that neither side exceeds; streams cut into rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stk.cli.data import main as stk_data
from stk.data.example import Example
from stk.data.manifest import Manifest, write_manifest
from stk.data.packing import cut_streams, pack_pairs
from stk.data.vocab import CharVocab, train_sentencepiece
from stk.errors import StkError
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective

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


def test_streams_are_cut_where_a_row_is_full() -> None:
    texts = [("ab cd", "de"), ("a", "en"), ("b cd ab ac", "de"), ("d", "de")]
    sentences = [
        Example(id=str(i), doc=str(i), src_text=text, src_lang=language, tgt_text="a")
        for i, (text, language) in enumerate(texts)
    ]
    found = list(cut_streams(sentences, VOCAB, limit=9))
    assert [(e.id, e.src_lang, e.src_text) for e in found] == [
        ("de-1", "de", "ab cd\nb"),  # 1 + 6 + 1, and "b cd" would be 4
        ("de-2", "de", "cd ab"),  # "cd ab ac" fits, but not its end symbol: the last word waits
        ("de-3", "de", "ac\nd\n"),
        ("en-1", "en", "a\n"),
    ]
    assert all(row.tgt_text is None and row.doc is None for row in found)
    with pytest.raises(StkError, match="'0' has a word of more tokens than a row of 3: 'abcd'"):
        list(cut_streams([Example(id="0", src_text="abcd")], VOCAB, limit=3))
    with pytest.raises(StkError, match="'0' lacks tgt_text"):
        list(cut_streams([Example(id="0", src_text="a")], VOCAB, text="tgt_text", limit=9))


@pytest.mark.parametrize("name", ["causal_lm", "masked_lm"])
def test_rows_of_a_stream_are_read_as_the_stream(name: str) -> None:
    """End symbols come with sentences that end, never where a row is cut."""
    texts = ["ab cd a", "b", "cd ab", "a a a a a a a"]
    sentences = [Example(id=str(i), src_text=text, src_lang="de") for i, text in enumerate(texts)]
    context = CollateContext(vocabs={"src": VOCAB})
    objective: Any = build_objective({"name": name, "continuous": True})
    space = VOCAB.encode("a b")[1]
    whole = [i for text in texts for i in [*VOCAB.encode(text), VOCAB.eos] if i != space]
    rows = list(cut_streams(sentences, VOCAB, limit=6))
    read = [objective.ids(row, context) for row in rows]
    assert [i for ids in read for i in ids if i != space] == whole
    assert all(len(ids) + 1 <= 6 for ids in read) and len(rows) > 4
    assert {ids[-1] == VOCAB.eos for ids in read} == {True, False}
    assert objective.size(rows[0], context).tokens == len(read[0]) + 1
    with pytest.raises(StkError, match="not pieces of a stream"):
        build_objective({"name": "translation_lm", "continuous": True})


def test_streams_of_subword_pieces_keep_them() -> None:
    """Words are never cut, so a row's pieces are those its sentence had."""
    texts = ["the old house stands near the river", "an old river", "near the house"] * 4
    vocab = train_sentencepiece(texts, 40, model_type="bpe")
    sentences = [Example(id=str(i), src_text=text) for i, text in enumerate(texts)]
    rows = list(cut_streams(sentences, vocab, limit=16))
    objective: Any = build_objective({"name": "causal_lm", "continuous": True})
    context = CollateContext(vocabs={"src": vocab})
    read = [i for row in rows for i in objective.ids(row, context)]
    assert read == [i for text in texts for i in [*vocab.encode(text), vocab.eos]]
    assert any(not str(row.src_text).endswith("\n") for row in rows)


def test_streams_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VOCAB.save(tmp_path / "vocab")
    write_manifest(tmp_path / "in.jsonl", rows([("ab cd", "cd"), ("a", "b")]))
    out = tmp_path / "out.jsonl"
    common = ["pack", str(tmp_path / "in.jsonl"), "--vocab", str(tmp_path / "vocab")]
    common += ["--out", str(out), "--continuous"]
    assert stk_data([*common, "--limit", "5"]) == 0
    assert [(row.id, row.src_text) for row in Manifest(out)] == [
        ("de-1", "ab"), ("de-2", "cd\n"), ("de-3", "a\n"),
    ]  # fmt: skip
    assert stk_data([*common, "--field", "both"]) == 1
    assert "--continuous is of one text" in capsys.readouterr().err
    assert stk_data([*common, "--limit", "2"]) == 1
    assert "--limit 2 holds no sentence" in capsys.readouterr().err
