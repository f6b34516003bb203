"""Manifests of folders, filters of lengths, and the cache of resampled clips."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stk.cli.data import main
from stk.data import prepare
from stk.data.audio import audio_info, load_audio
from stk.data.example import Example
from stk.data.folder import find_sound, sound_examples
from stk.data.length_filter import LengthFilter
from stk.data.manifest import read_manifest
from stk.data.prepare import prepared
from stk.errors import StkError


@pytest.fixture
def folder(tmp_path: Path, clip: Callable[..., Path]) -> Path:
    """Two speakers' clips, a hidden folder, a text."""
    for name, seconds in (("ann/1.wav", 0.5), ("ann/2.flac", 1.0), ("bob/1.WAV", 2.0)):
        path = tmp_path / "sound" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(f"made{path.suffix.lower()}", seconds).read_bytes())
    hidden = tmp_path / "sound" / ".cache"
    hidden.mkdir()
    (hidden / "x.wav").write_bytes(b"")
    (tmp_path / "sound" / "readme.txt").write_text("no sound")
    return tmp_path / "sound"


def test_scan(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "audio.jsonl"
    assert main(["scan", str(folder), str(out), "--speakers", "--src-lang", "en"]) == 0
    assert f"{out}: 3 rows" in capsys.readouterr().out
    rows = read_manifest(out)
    assert [(r.id, r.duration, r.speaker) for r in rows] == [
        ("ann/1", 0.5, "ann"),
        ("ann/2", 1.0, "ann"),
        ("bob/1", 2.0, "bob"),
    ]
    assert all(r.src_lang == "en" and r.src_text is None for r in rows)
    assert main(["validate", str(out)]) == 0


def test_two_files_of_one_name_have_two_ids(folder: Path, clip: Callable[..., Path]) -> None:
    (folder / "ann" / "1.flac").write_bytes(clip("other.flac").read_bytes())
    rows = list(sound_examples(find_sound(folder), folder))
    assert [row.id for row in rows] == ["ann/1", "ann/1.wav", "ann/2", "bob/1"]


def test_what_scan_refuses(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "audio.jsonl")
    assert main(["scan", str(tmp_path / "none"), out]) == 1
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["scan", str(tmp_path / "empty"), out]) == 1
    assert "no sound file in this folder" in capsys.readouterr().err
    (folder / "ann" / "3.flac").write_bytes(b"fLaC and no more")
    assert main(["scan", str(folder), out]) == 1
    assert "3.flac: not a readable sound file" in capsys.readouterr().err
    listed = tmp_path / "bad.txt"
    assert main(["scan", str(folder), out, "--skip-bad", str(listed)]) == 0
    assert len(listed.read_text().splitlines()) == 1 and len(read_manifest(out)) == 3
    with pytest.raises(StkError, match="unknown language"):
        list(sound_examples(find_sound(folder), folder, src_lang="qx"))
    (folder / "0.wav").write_bytes((folder / "ann/1.wav").read_bytes())
    with pytest.raises(StkError, match="lies in no speaker's folder"):
        list(sound_examples(find_sound(folder), folder, speakers=True))


def test_filter(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = str(tmp_path / "audio.jsonl"), str(tmp_path / "short.jsonl")
    assert main(["scan", str(folder), raw]) == 0
    assert main(["filter", raw, out, "--min-seconds", "0.6", "--max-seconds", "1.5"]) == 0
    captured = capsys.readouterr()
    assert f"{out}: 1 of 3 rows" in captured.out
    assert "left out, over 1.5 s: 1" in captured.err and "under 0.6 s: 1" in captured.err
    assert [row.id for row in read_manifest(out)] == ["ann/2"]
    assert main(["filter", raw, out, "--min-seconds", "2", "--max-seconds", "1"]) == 1
    assert "max_seconds 1 is not above min_seconds 2" in capsys.readouterr().err


def test_filters_of_texts() -> None:
    rows = [
        Example(id="a", audio=Path("a"), duration=1.0, src_text="x" * 31),
        Example(id="b", audio=Path("b"), duration=1.0, src_text="x" * 30),
        Example(id="c", src_text="x" * 99, tgt_text="y"),
        Example(id="d", src_text="x", tgt_text="y" * 51),
    ]
    left: Counter[str] = Counter()
    kept = list(LengthFilter(max_chars_per_second=30, max_chars=50)(rows, left))
    assert [row.id for row in kept] == ["b"]
    assert left == {
        "transcript of over 30 characters a second": 1,
        "src_text of over 50 characters": 1,
        "tgt_text of over 50 characters": 1,
    }
    unmeasured = Example(id="e", audio=Path("e"), file=Path("m.jsonl"), row=4)
    with pytest.raises(StkError, match=r"m.jsonl:4: .*has no duration \(run stk-data prepare"):
        LengthFilter(min_seconds=1.0).reason(unmeasured)
    assert LengthFilter(max_chars=9).reason(unmeasured) is None


def test_sound_is_resampled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, rate = np.random.default_rng(0), 44100
    samples = np.stack([np.zeros(rate), 0.1 * rng.standard_normal(rate)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, rate)
    rows = [Example(id="a", audio=tmp_path / "a.wav")]
    reads: list[str] = []

    def counted(path: Path, *args: object) -> object:
        reads.append(path.name)
        return load_audio(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare, "load_audio", counted)
    made = [
        list(prepared(rows, audio_dir=tmp_path / "cache", channel=channel))[0]
        for channel in ("loudest", "loudest", "first", "loudest")
    ]
    assert len(reads) == 3  # the second time nothing had changed
    assert made[0] == made[1] and made[0].audio is not None and made[0].duration == 1.0
    info = audio_info(made[0].audio)
    assert (info.rate, info.channels, info.frames) == (16000, 1, 16000)
    assert float(load_audio(made[0].audio).std()) > 0.04  # the left channel is silent
    os.utime(tmp_path / "a.wav", (1, 1))
    list(prepared(rows, audio_dir=tmp_path / "cache", channel="loudest"))
    assert len(reads) == 4
    made[0].audio.write_bytes(b"broken")
    list(prepared(rows, audio_dir=tmp_path / "cache", channel="loudest"))
    assert len(reads) == 5 and audio_info(made[0].audio).frames == 16000
