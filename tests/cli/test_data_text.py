"""stk-data parallel, counts, synthetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stk.cli.data import main
from stk.data.manifest import read_manifest
from stk.data.vocab import CharVocab


def test_parallel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, out = (tmp_path / name for name in ("a.en", "a.de", "out.jsonl"))
    source.write_text("a house\nA house.\ntwo\n")
    target.write_text("ein Haus\nein Haus\nдва\n")
    command = ["parallel", *map(str, (source, target, out)), "--src-lang", "en", "--tgt-lang", "de"]
    assert main(command) == 0 and len(read_manifest(out)) == 3
    assert main([*command, "--clean"]) == 0
    assert [row.tgt_text for row in read_manifest(out)] == ["ein Haus"]
    assert "1 rows, 1 left out: another script, 1 left out: repeated" in capsys.readouterr().out
    target.write_text("ein Haus\n")
    assert main(command) == 1
    assert "a.en: 3 lines, but" in capsys.readouterr().err


def test_languages_are_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, known, out = (tmp_path / n for n in ("a.en", "a.de", "k.jsonl", "out.jsonl"))
    rows = [
        {
            "id": str(i),
            "src_text": f"the house of the old king and the {word} of the river",
            "src_lang": "en",
            "tgt_text": f"das haus des alten königs und der {word} auf dem fluss",
            "tgt_lang": "de",
        }
        for i, word in enumerate(("wind", "park", "ring"))
    ]
    known.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source.write_text("the king and the house\nthe river of the old house\n")
    target.write_text("der könig und das haus\nthe house of the old king\n")
    command = ["parallel", *map(str, (source, target, out)), "--src-lang", "en"]
    german = [*command, "--tgt-lang", "de"]
    assert main([*german, "--clean"]) == 0 and len(read_manifest(out)) == 2
    assert main([*german, "--clean", "--guess-from", str(known)]) == 0
    assert [row.tgt_text for row in read_manifest(out)] == ["der könig und das haus"]
    assert "1 rows, 1 left out: another language" in capsys.readouterr().out
    assert main([*german, "--guess-from", str(known)]) == 1
    assert "--guess-from is of cleaning (add --clean)" in capsys.readouterr().err
    assert main([*command, "--tgt-lang", "fr", "--clean", "--guess-from", str(known)]) == 1
    assert "a text in 'fr' (languages there: de, en)" in capsys.readouterr().err


def test_counts_and_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = CharVocab.of_texts(["ab"])
    vocab.save(tmp_path / "vocab")
    manifest = tmp_path / "m.jsonl"
    row = {"id": "1", "src_text": "aab", "src_lang": "en", "tgt_text": "b a", "tgt_lang": "de"}
    manifest.write_text(json.dumps(row) + "\n")
    out = tmp_path / "counts.npy"
    command = ["counts", str(manifest), "--vocab", str(tmp_path / "vocab"), "--out", str(out)]
    assert main(command) == 0
    counts = np.load(out)
    assert counts[vocab.encode("a")[0]] == 2 and counts.sum() == 3 and len(counts) == len(vocab)
    decoded = tmp_path / "d.jsonl"
    decoded.write_text(json.dumps({"id": "1", "nbest": [{"text": "x"}, {"text": "b a"}]}) + "\n")
    made = tmp_path / "s.jsonl"
    command = ["synthetic", *map(str, (manifest, decoded, made))]
    assert main([*command, "--side", "source"]) == 0
    (found,) = read_manifest(made)
    assert (found.src_text, found.src_lang, found.tgt_text) == ("x", "de", "aab")
    assert main([*command, "--side", "target", "--nearest"]) == 0
    assert read_manifest(made)[0].tgt_text == "b a"
    decoded.write_text("")
    assert main([*command, "--side", "source"]) == 1
    assert "example '1' was not decoded" in capsys.readouterr().err
