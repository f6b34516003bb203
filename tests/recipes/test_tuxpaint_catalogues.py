"""Text from message catalogues: what is kept, and that no tested sentence is."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import catalogues
import pytest
from stamps import LANGUAGES

from stk.data.example import Example
from stk.data.manifest import read_manifest, write_manifest
from stk.errors import StkError


def write_mo(path: Path, messages: Mapping[str, str]) -> None:
    """A catalogue as GNU gettext compiles it."""
    rows = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items())
    places, texts, table = 28 + 16 * len(rows), b"", {"key": b"", "message": b""}
    for column, name in enumerate(table):
        for row in rows:
            data = row[column].encode()
            table[name] += struct.pack("<II", len(data), places + len(texts))
            texts += data + b"\0"
    first = 28 + 8 * len(rows)
    head = struct.pack("<7I", 0x950412DE, 0, len(rows), 28, first, 0, first + 8 * len(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + table["key"] + table["message"] + texts)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Catalogues of all languages, and manifests."""
    for language in LANGUAGES:
        own = tmp_path / "packages" / catalogues.CATALOGUES / language / "LC_MESSAGES"
        message = {"X\x04Pink ~flamingo": "un flamant"} if language == "fr" else {}
        write_mo(own / "a.mo", {"X\x04Open file": "ouvre ici", **message})
        write_mo(own / "b.mo", {"Y\x04~Open file:": "~ouvre ici:", "Y\x04Open %1 file": "a %1"})
    letters = "abcdefghijklmnopqrstuvwxyz '"
    rows = {
        "train": Example(id="t", src_text=letters, tgt_text=letters, src_lang="fr", tgt_lang="en"),
        "dev": Example(id="d", src_text="x", tgt_text="Y.", src_lang="fr", tgt_lang="en"),
        "test": Example(
            id="e", src_text="Autre", tgt_text="pink flamingo!", src_lang="fr", tgt_lang="en"
        ),
    }
    for name, row in rows.items():
        write_manifest(tmp_path / "data" / f"{name}.jsonl", [row])
    return tmp_path


def test_short_messages_without_tested_sentences(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = work / "out.jsonl"
    places = ["--packages", str(work / "packages"), "--data", str(work / "data")]
    catalogues.main([*places, "--out", str(out)])
    found = read_manifest(out)
    assert [(r.id, r.src_text, r.tgt_text) for r in found] == [("fr-1", "ouvre ici", "Open file")]
    told = capsys.readouterr().err
    assert "spoken in development or test: 1" in told and "a copy: 1" in told
    assert "not a short sentence: 8" in told  # one in every language
    assert "letters that the recordings lack: 14" in told  # of languages without recordings


def test_the_transcript_of_a_test_clip_is_left_out_too(work: Path) -> None:
    test = Example(id="e", src_text="Ouvre ici!", tgt_text="z", src_lang="fr", tgt_lang="en")
    train = read_manifest(work / "data" / "train.jsonl")
    assert list(catalogues.pairs(work / "packages", train, catalogues.known([test]))) == [
        Example(
            id="fr-1", src_text="un flamant", src_lang="fr", tgt_text="Pink flamingo", tgt_lang="en"
        )
    ]


def test_a_language_without_catalogues(tmp_path: Path) -> None:
    with pytest.raises(StkError, match="no catalogue of 'fr'"):
        next(catalogues.messages(tmp_path, "fr"))
