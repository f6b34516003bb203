"""``stk-decode`` on a tiny checkpoint: files, manifests, text, shards, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile

import stk
from stk.cli.decode import main
from tests.decoding import tiny

FLAGS = ["--device", "cpu", "--beam", "2", "--set", "max_extra=2", "min_length=3"]
OPTIONS = {"beam": 2, "max_extra": 2, "min_length": 3}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("decode") / "checkpoint")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for i in range(5):
        name = tiny.write_clip(folder / f"{i}.wav", 0.4 + 0.2 * (i % 3), seed=i).name
        rows.append({"id": f"c{i}", "audio": name, "tgt_lang": "de"})
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


SOUNDS = [
    ("a.wav", 16000, 1),
    ("b.wav", 8000, 3),
    ("c.flac", 44100, 2),
    ("d.flac", 96000, 6),
    ("e.ogg", 22050, 2),
    ("f.aiff", 48000, 1),
    ("g.aiff", 11025, 2),
    ("h.mp3", 32000, 2),
    ("i.mp3", 24000, 1),
]


def test_sound_of_any_format(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every format, at several rates and channel counts, in one call."""
    paths = [
        tiny.write_clip(tmp_path / name, 0.6 + 0.1 * (i % 3), seed=i, rate=rate, channels=channels)
        for i, (name, rate, channels) in enumerate(SOUNDS)
    ]
    output = tmp_path / "out.jsonl"
    arguments = ["--checkpoint", str(speech), "--target-lang", "de", *FLAGS]
    arguments += ["--audio", *map(str, paths)]
    assert main([*arguments, "--output", str(output)]) == 0
    assert "real-time factor" in (error := capsys.readouterr().err) and "9 inputs in" in error
    rows = rows_of(output)
    translator = stk.load(speech, device="cpu", **OPTIONS)
    for i, (path, row) in enumerate(zip(paths, rows, strict=True)):
        assert row["id"] == str(path)
        assert row["audio_seconds"] == pytest.approx(0.6 + 0.1 * (i % 3), abs=0.002)
        assert row["text"] == translator.translate(path, target_lang="de").text
    assert len({row["text"] for row in rows}) > 1
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [row["text"] for row in rows]


def test_a_lossless_copy_is_translated_alike(speech: Path, tmp_path: Path) -> None:
    """WAV, FLAC and AIFF of one sound, and the same sound on two channels."""
    wav = tiny.write_clip(tmp_path / "x.wav", 0.8, seed=4)
    samples, rate = soundfile.read(wav, always_2d=True)
    copies = [wav]
    for name, channels in (("x.flac", 1), ("x.aiff", 1), ("y.flac", 2)):
        copies.append(tmp_path / name)
        soundfile.write(copies[-1], samples.repeat(channels, axis=1), rate)
    translator = stk.load(speech, device="cpu", **OPTIONS)
    found = [translator.translate(path, target_lang="de").nbest for path in copies]
    assert found[1:] == found[:-1]


def test_a_manifest_in_shards_is_the_manifest(speech: Path, manifest: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(speech), "--manifest", str(manifest), "--nbest", "2", *FLAGS]
    whole, summary = tmp_path / "whole.jsonl", tmp_path / "summary.json"
    assert main([*arguments, "--output", str(whole), "--summary", str(summary)]) == 0
    rows = rows_of(whole)
    assert [row["id"] for row in rows] == [f"c{i}" for i in range(5)]
    for row in rows:
        assert row["text"] == row["nbest"][0]["text"]
        assert row["score"] == row["nbest"][0]["score"] >= row["nbest"][1]["score"]
        assert row["audio_seconds"] > 0 and row["batch_seconds"] > 0
    figures = json.loads(summary.read_text())
    assert figures["inputs"] == 5 and figures["skipped"] == 0
    assert figures["audio_seconds"] == pytest.approx(sum(row["audio_seconds"] for row in rows))
    assert figures["real_time_factor"] == pytest.approx(
        figures["seconds"] / figures["audio_seconds"]
    )
    parts = {}
    for shard in (1, 2):
        part = tmp_path / f"{shard}.jsonl"
        assert main([*arguments, "--output", str(part), "--shard", f"{shard}/2"]) == 0
        parts |= {row["id"]: row["text"] for row in rows_of(part)}
    assert parts == {row["id"]: row["text"] for row in rows}


def test_text_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny.checkpoint(tmp_path / "text", kind="text")
    source = tmp_path / "source.txt"
    source.write_text("abc\nhgf edc\n")
    arguments = ["--checkpoint", str(checkpoint), "--target-lang", "fr", *FLAGS]
    assert main([*arguments, "--text", str(source)]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "real-time" not in printed.err
    monkeypatch.setattr("sys.stdin", source.open())
    assert main([*arguments, "--text", "-"]) == 0
    assert capsys.readouterr().out == printed.out
    source.write_text("abc\n\n")
    assert main([*arguments, "--text", str(source)]) == 1
    assert f"{source}:2: example '2' has no src_text" in capsys.readouterr().err


def test_bad_rows_are_one_line_or_a_list(
    speech: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = manifest.with_name("bad.jsonl")
    (manifest.parent / "empty.wav").touch()
    rows = manifest.read_text().splitlines()
    broken = '{"id": "e", "audio": "empty.wav", "tgt_lang": "de"}'
    bad.write_text("\n".join([rows[0], broken, "not json", rows[1]]) + "\n")
    output = tmp_path / "out.jsonl"
    arguments = ["--checkpoint", str(speech), "--manifest", str(bad), *FLAGS]
    assert main([*arguments, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert f"{bad}:3: not JSON" in error and len(error.splitlines()) == 1
    assert not output.exists()
    skip = tmp_path / "skipped.txt"
    assert main([*arguments, "--output", str(output), "--skip-bad", str(skip)]) == 0
    assert [row["id"] for row in rows_of(output)] == ["c0", "c1"]
    listed = skip.read_text().splitlines()
    assert len(listed) == 2
    assert {line.split(": ")[0] for line in listed} == {f"{bad}:2", f"{bad}:3"}
    assert "2 skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--audio", "missing.wav"], "missing.wav: no such sound file"),
        (["--audio", "missing.wav", "--shard", "3/2"], "is no shard"),
        (["--audio", "x.wav", "--set", "length_penalt=1"], "nearest known key: length_penalty"),
        (["--audio", "x.wav", "--set", "beam"], "not of the form key=value"),
        (["--audio", "x.wav", "--beam", "0"], "nbest must lie between 1 and beam"),
        (["--audio", "x.wav", "--task", "mt"], "no stream 'mt'"),
    ],
)
def test_one_line_for_what_the_user_can_mend(
    speech: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--checkpoint", str(speech), "--target-lang", "de", "--device", "cpu"]
    assert main([*base, *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(tmp_path), "--audio", "x.wav"]) == 1
    assert "holds no checkpoint" in capsys.readouterr().err


def test_sampling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reproducible, whatever the batches and shards; other seeds and ids draw other outputs."""
    checkpoint = tiny.checkpoint(tmp_path / "text", kind="text")
    rows = [{"id": f"s{i}", "src_text": "abc", "tgt_lang": "de"} for i in range(6)]
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = ["--checkpoint", str(checkpoint), "--manifest", str(manifest), "--device", "cpu"]
    common += ["--output", str(output), "--sample"]

    def texts(*further: str) -> list[str]:
        assert main([*common, *further]) == 0
        return [row["text"] for row in rows_of(output)]

    size = ["--set", "max_extra=9", "temperature=3"]
    found = texts(*size)
    assert len(set(found)) > 2  # one source, drawn anew for every id
    assert texts(*size, "batch.max_examples=1") == found
    assert texts(*size, "--shard", "2/2") == found[1::2]
    assert texts(*size, "seed=2") != found
    assert main([*common, "--nbest", "3", *size]) == 0
    assert all(len(row["nbest"]) == 3 for row in rows_of(output))
    for wrong, message in (
        (["--beam", "3"], "sampling has no beam"),
        (["--set", "beam=3"], "sampling has no beam"),
        (["--set", "search=ctc"], "--sample and search=ctc"),
        (["--set", "ctc_weight=0.3"], "set ctc_weight to 0"),
        (["--lm", str(checkpoint)], "is no causal language model"),
        (["--then", str(checkpoint)], "--sample is of one model"),
    ):
        assert main([*common, *wrong]) == 1
        assert message in capsys.readouterr().err
