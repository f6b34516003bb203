"""The manifest: strict, compact, written whole."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from stk.data.example import Example
from stk.data.languages import check_language
from stk.data.manifest import Manifest, SkipList, read_manifest, write_manifest
from stk.errors import StkError

GOOD = {"id": "a", "audio": "a.wav", "src_text": "hi", "src_lang": "en"}


def test_all_five_resources_round_trip(tmp_path):
    examples = [
        Example(id="audio", audio=tmp_path / "x" / "a.wav", start=1.5, duration=2.0, doc="talk"),
        Example(id="text", tgt_text="ein Satz", tgt_lang="de"),
        Example(id="mt", src_text="one", src_lang="en", tgt_text="eins", tgt_lang="de"),
        Example(id="asr", audio=Path("/far/b.wav"), src_text="zwei", src_lang="de", speaker="s"),
        Example(id="st", audio=tmp_path / "c.wav", tgt_text="trois \u2028 é", tgt_lang="fr-CA"),
    ]
    path = tmp_path / "m.jsonl"
    assert write_manifest(path, iter(examples)) == 5
    assert '"audio": "x/a.wav"' in path.read_text() and "/far/b.wav" in path.read_text()
    found = read_manifest(path)
    assert [(e.file, e.row) for e in found] == [(path, i) for i in range(1, 6)]
    for before, after in zip(examples, found, strict=True):
        assert before.present == after.present
        assert all(getattr(before, name) == getattr(after, name) for name in before.present)
    lazy = Manifest(path)
    assert list(lazy) == found and lazy[-1] == found[-1] and lazy[1:3] == found[1:3]
    assert list(pickle.loads(pickle.dumps(lazy))) == found
    with pytest.raises(IndexError):
        lazy[5]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("", "not JSON: an empty line"),
        ("[1]", "expected a JSON object"),
        ({"audio": "a.wav"}, "missing key 'id'"),
        ({**GOOD, "lang": "de"}, "unknown key 'lang'"),
        ({**GOOD, "id": " "}, "id is empty"),
        ({**GOOD, "id": 7}, "id must be text"),
        ({**GOOD, "tgt_text": ""}, "tgt_text is empty"),
        ({**GOOD, "tgt_text": "  "}, "tgt_text is empty"),
        ({**GOOD, "tgt_text": None}, "tgt_text must be text"),
        ({**GOOD, "start": -1}, "start is -1"),
        ({**GOOD, "duration": 0}, "duration is 0"),
        ({**GOOD, "duration": "3"}, "duration must be a number"),
        ({**GOOD, "start": True}, "start must be a number"),
        ('{"id": "a", "audio": "a.wav", "duration": NaN}', "NaN is not a number"),
        ('{"id": "a", "audio": "a.wav", "duration": 1e999}', "duration is inf"),
        ('{"id": "a", "id": "b"}', "key 'id' stands twice"),
        ({"id": "a", "start": 1.0}, "without audio"),
        ({**GOOD, "src_lang": "english"}, "not a language code"),
        ({**GOOD, "src_lang": "EN"}, "not a language code"),
        ({**GOOD, "tgt_lang": "dx"}, "unknown language 'dx'"),
        (b"\xff{}", "not UTF-8"),
        ({**GOOD, "id": "first"}, "id 'first' stands already in row 1"),
    ],
)
def test_bad_rows_are_named_or_skipped(tmp_path, line, message):
    path = tmp_path / "m.jsonl"
    text = json.dumps(line) if isinstance(line, dict) else line
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(b'{"id": "first"}\n' + data + b'\n{"id": "last"}\n')
    for read in (read_manifest, Manifest):
        with pytest.raises(StkError, match=message) as caught:
            read(path)
        assert (caught.value.file, caught.value.row) == (path, 2)
        assert str(caught.value).startswith(f"{path}:2: ") and "\n" not in str(caught.value)
        skipped = SkipList(tmp_path / "skipped.txt")
        assert [e.id for e in read(path, skip_bad=skipped)] == ["first", "last"]
        assert len(skipped) == 1
    skipped.write()
    assert (tmp_path / "skipped.txt").read_text().startswith(f"{path}:2: ")


def test_missing_and_empty_manifests(tmp_path):
    with pytest.raises(StkError, match="no such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(StkError, match="no usable row"):
        read_manifest(tmp_path / "empty.jsonl")


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Example(id="old")])
    with pytest.raises(StkError, match="would stand twice"):
        write_manifest(path, [Example(id="a"), Example(id="a")])
    assert read_manifest(path)[0].id == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_manifest_that_changes_under_a_worker_is_refused(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, [Example(id="a")])
    frozen = pickle.dumps(Manifest(path))
    write_manifest(path, [Example(id="a"), Example(id="b")])
    with pytest.raises(StkError, match="changed while it was in use"):
        pickle.loads(frozen)


def test_rows_cost_little_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "big.jsonl"
    text = "word " * 40
    path.write_text("".join(f'{{"id": "row-{i}", "src_text": "{text}"}}\n' for i in range(20000)))
    tracemalloc.start()
    manifest = Manifest(path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == 20000 and manifest[19999].id == "row-19999"
    assert kept < 20000 * 40


def test_languages():
    for code in ("de", "yue", "zh-TW", "sr-Latn", "sr-Latn-RS", "es-419", "qaa", "qtz"):
        assert check_language(code) == code
    for code in ("xx", "qzz", "deu-", "zz", ""):
        with pytest.raises(StkError):
            check_language(code)
