"""The demo's sound: the same bits every time, in the voices each set may have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import build_corpus
import corpus
import espeak
import numpy as np
import pytest
import soundfile
import voices

from stk.cli.common import run
from stk.data.manifest import read_manifest
from stk.errors import StkError

FEW = {"train": 4, "dev": 2, "test": 3, "test_seen": 2, "test_template": 2, "test_engine": 2}


def requests(directory: Path) -> list[espeak.Request]:
    directory.mkdir()
    spoken = [("en-us", "f2"), ("en", "m3"), ("en-gb-scotland", "f3"), ("en-029", "Alex")]
    return [
        espeak.Request(
            text=f"it is half past {hour}",
            accent=accent,
            variant=variant,
            rate=170,
            pitch=50,
            path=directory / f"{accent}-{variant}-{hour}.wav",
        )
        for accent, variant in spoken
        for hour in ("three", "four")
    ]


def test_bits_do_not_depend_on_order_or_processes(tmp_path: Path) -> None:
    first, second = requests(tmp_path / "a"), requests(tmp_path / "b")
    assert {r.path for r in espeak.speak_all(first, 1)} == {r.path for r in first}
    list(espeak.speak_all(second[::-1], 3))
    sounds = {request.path.name: request.path.read_bytes() for request in first}
    assert {request.path.name: request.path.read_bytes() for request in second} == sounds
    assert len(set(sounds.values())) == len(sounds)
    for request in first:
        samples, rate = soundfile.read(request.path)
        assert rate == 16000 and samples.ndim == 1
        assert 0.6 < len(samples) / rate < 3.0
        assert 0.05 < np.abs(samples).max() < 0.99


@pytest.mark.parametrize(("accent", "variant"), [("en-gb", "m3"), ("en-us", "nobody")])
def test_unknown_voices_are_refused(accent: str, variant: str) -> None:
    with pytest.raises(StkError, match="espeak-ng has no"):
        espeak.check_voice(accent, variant)


def test_every_voice_exists_and_has_one_side() -> None:
    variants = [variant for side in voices.VARIANTS.values() for variant in side]
    assert len(set(variants)) == len(variants)
    assert min(len(side) for side in voices.VARIANTS.values()) >= 2
    for accent in voices.ACCENTS:
        espeak.check_voice(accent, variants[0])
    for variant in variants:
        espeak.check_voice("en", variant)


def test_a_failed_child_is_an_error(tmp_path: Path) -> None:
    request = requests(tmp_path / "a")[0]
    (tmp_path / "a").rmdir()
    with pytest.raises(StkError, match="no sound for"):
        list(espeak.speak_all([request], 1))


def build(out: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> int:
    monkeypatch.setitem(corpus.SIZES, "tiny", FEW)
    monkeypatch.setenv("PATH", path)
    options = ["--out", str(out), "--downloads", str(out.parent / "d"), "--size", "tiny"]
    return run(build_corpus.main, [*options, "--tgt", "fr", "--processes", "2"])


def test_corpus_without_flite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny"
    assert build(out, monkeypatch, "") == 0
    assert "the set test_engine is left out: apt-get is not on this machine" in (
        capsys.readouterr().err
    )
    note = json.loads((out / "corpus.json").read_text())
    assert list(note["left_out"]) == ["test_engine"]
    speakers: dict[str, set[str]] = {}
    for name in ("train", "dev", "test", "test_seen", "test_template"):
        examples = read_manifest(out / f"{name}.jsonl")
        assert len(examples) == FEW[name]
        for example in examples:
            assert example.audio is not None and example.audio.is_relative_to(out)
            assert example.duration == soundfile.info(example.audio).duration
            assert (example.src_lang, example.tgt_lang) == ("en", "fr")
            assert example.speaker is not None
            speakers.setdefault(name, set()).add(example.speaker.split("+")[1])
    assert speakers["train"] <= set(voices.VARIANTS["train"])
    assert speakers["dev"] <= set(voices.VARIANTS["dev"])
    for name in ("test", "test_seen", "test_template"):
        assert speakers[name] <= set(voices.VARIANTS["test"])
    assert not (tmp_path / "tiny.part").exists()


def test_corpus_with_flite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    soundfile.write(programs / "sound.wav", np.full(1600, 0.1), 16000)
    program = programs / "flite"
    program.write_text(
        '#!/bin/bash\n[[ $1 == -lv ]] && echo "Voices available: kal awb kal16 rms slt" && exit\n'
        f'cp {programs}/sound.wav "$6"\n'
    )
    program.chmod(0o755)
    assert build(tmp_path / "tiny", monkeypatch, f"{programs}:{os.environ['PATH']}") == 0
    heard = read_manifest(tmp_path / "tiny" / "test_engine.jsonl")
    said = read_manifest(tmp_path / "tiny" / "test.jsonl")
    assert [example.speaker for example in heard] == ["flite-slt", "flite-rms"]
    assert [e.src_text for e in heard] == [e.src_text for e in said[:2]]
    assert json.loads((tmp_path / "tiny" / "corpus.json").read_text())["left_out"] == {}
