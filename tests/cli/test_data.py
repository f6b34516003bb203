"""``stk-data`` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from stk.cli.data import main
from stk.data.audio import audio_info
from stk.data.manifest import read_manifest
from stk.data.vocab import CharVocab, load_vocab
from stk.features.cmvn import Cmvn


@pytest.fixture
def manifest(tmp_path):
    """Six good rows; sound of 44.1 kHz in two channels, no durations."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal((44100, 2)), 44100)
        lines.append({"id": f"u{i}", "audio": f"{i}.wav", "src_text": "one two", "src_lang": "en"})
        lines[-1] |= {"tgt_text": f"eins zwei {i}", "tgt_lang": "de", "speaker": f"s{i % 2}"}
    path = tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def bad(tmp_path, manifest):
    """The same and six bad rows."""
    row = json.loads(manifest.read_text().splitlines()[0])
    (tmp_path / "cut.flac").write_bytes(b"fLaC and no more")
    rows = [
        {**row, "id": "x1", "audio": "none.wav"},
        {**row, "id": "x2", "audio": "cut.flac"},
        {**row, "id": "x3", "start": 0.5, "duration": 2.0},
        {**row, "id": "x4", "tgt_lang": "dx"},
        {**row, "id": "u0"},
        {key: value for key, value in {**row, "id": "x6"}.items() if key != "tgt_text"},
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text(manifest.read_text() + "".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_validate(manifest, bad, tmp_path, capsys):
    assert main(["validate", str(manifest), "--needs", "tgt_text", "audio"]) == 0
    assert capsys.readouterr().out == ""
    for jobs in ("1", "2"):
        assert main(["validate", str(bad), "--needs", "tgt_text", "--jobs", jobs]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"{bad}:{row}" for row in range(7, 13)]
        assert all(line.endswith(")") for line in lines)  # each with its mend
    assert main(["validate", str(bad), "--skip-bad", str(tmp_path / "skipped")]) == 0
    assert len((tmp_path / "skipped").read_text().splitlines()) == 5
    CharVocab("abc", ["de"]).save(tmp_path / "v")
    assert main(["validate", str(manifest), "--vocab", str(tmp_path / "v"), "--audio", "none"]) == 1
    assert "no tag 'en'" in capsys.readouterr().out
    assert main(["validate", str(manifest), "--needs", "text"]) == 1
    assert "no field 'text'" in capsys.readouterr().err


def test_stats(manifest, tmp_path, capsys):
    assert main(["stats", str(manifest), "--plot", str(tmp_path / "p.png")]) == 0
    out = capsys.readouterr().out
    assert "rows: 6  (triple 6)" in out and "languages: en-de 6" in out
    assert "0.00 h in 6 files" in out and "speakers: 2" in out
    assert "tgt_text: 18 words, 3.0 a row" in out and "seconds: least 1," in out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    CharVocab("eins zw").save(tmp_path / "v")
    assert main(["stats", str(manifest), "--vocab", str(tmp_path / "v")]) == 0
    assert "tgt_text: 66 tokens, 11.0 a row, 9.09 % unknown" in capsys.readouterr().out


def test_prepare(manifest, bad, tmp_path, capsys):
    out, listed = tmp_path / "out.jsonl", tmp_path / "skipped"
    assert main(["prepare", str(bad), str(out)]) == 1
    assert f"{bad}:10: unknown language" in capsys.readouterr().err and not out.exists()
    arguments = ["--audio-dir", str(tmp_path / "flac"), "--skip-bad", str(listed)]
    assert main(["prepare", str(bad), str(out), *arguments]) == 0
    assert len(listed.read_text().splitlines()) == 5
    rows = read_manifest(out)
    assert [row.id for row in rows] == [*(f"u{i}" for i in range(6)), "x6"]
    assert all(row.duration == 1.0 and row.audio.suffix == ".flac" for row in rows)
    info = audio_info(rows[0].audio)
    assert (info.rate, info.channels, info.frames) == (16000, 1, 16000)
    assert main(["validate", str(out)]) == 0


@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_vocab(manifest, tmp_path, capsys, kind):
    text = tmp_path / "more.txt"
    text.write_text("drei vier\n\nzwei drei eins\n" * 9)
    arguments = ["--out", str(tmp_path / "v"), "--type", kind, "--tags", "de", "asr"]
    arguments += ["--fields", "tgt_text", "src_text"]
    sized = [] if kind == "char" else ["--size", "26"]
    assert main(["vocab", str(manifest), str(text), *arguments, *sized]) == 0
    vocab = load_vocab(tmp_path / "v")
    assert vocab.tags == ("de", "asr") and vocab.decode(vocab.encode("zwei one")) == "zwei one"
    if kind == "unigram":
        assert len(vocab) == 26
        assert main(["vocab", str(text), *arguments]) == 1
        assert "--size is needed" in capsys.readouterr().err
    else:
        assert main(["vocab", str(text), *arguments, "--normalization", "nmt_nfkc_cf"]) == 1
        assert "--normalization is SentencePiece's" in capsys.readouterr().err


def test_cmvn(manifest, tmp_path, capsys):
    out = tmp_path / "cmvn.safetensors"
    config = tmp_path / "run.yaml"
    config.write_text(f"features: {{cmvn: global, cmvn_file: {out}, num_mel_bins: 20}}\n")
    assert main(["cmvn", str(manifest), "--out", str(out), "--config", str(config)]) == 0
    assert Cmvn.load(out).mean.shape == (20,) and Cmvn.load(out).frames == 6 * 98
    arguments = ["--set", "num_mel_bins=40", "--clips", "2"]
    assert main(["cmvn", str(manifest), "--out", str(out), *arguments]) == 0
    assert Cmvn.load(out).mean.shape == (40,) and Cmvn.load(out).frames == 2 * 98
    assert main(["cmvn", str(manifest), "--out", str(out), "--set", "bins=40"]) == 1
    assert "unknown key 'features.bins'" in capsys.readouterr().err
    assert main(["cmvn", str(manifest), "--out", str(out), "--set", "bins"]) == 1


@pytest.mark.parametrize("form", ["kaldi", "fairseq"])
def test_convert_there_and_back(manifest, tmp_path, form):
    there, back = tmp_path / "there", tmp_path / "back.jsonl"
    languages = ["--src-lang", "en", "--tgt-lang", "de"]
    assert main(["convert", str(manifest), str(there), "--from", "manifest", "--to", form]) == 0
    assert main(["convert", str(there), str(back), "--from", form, *languages]) == 0
    before, after = read_manifest(manifest), read_manifest(back)
    assert [(e.id, e.audio, e.src_text, e.tgt_text, e.speaker, e.present) for e in before] == [
        (e.id, e.audio, e.src_text, e.tgt_text, e.speaker, e.present) for e in after
    ]


def test_check_reports_what_a_run_uses_and_leaves_out(manifest, tmp_path, capsys):
    CharVocab("einszw 0123456789", ["de"]).save(tmp_path / "v")
    rows = manifest.read_text().splitlines()
    long = {**json.loads(rows[0]), "id": "long", "tgt_text": "eins " * 20}
    manifest.write_text("\n".join([*rows, json.dumps(long)]) + "\n")
    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
output: {tmp_path / "run"}
model: {{name: speech_transformer, preset: xs, ctc_view: tgt}}
vocabularies: {{tgt: {tmp_path / "v"}}}
features: {{}}
training: {{max_updates: 1, device: cpu}}
streams:
- name: st
  manifests: [{manifest}]
  objective: {{name: cross_entropy, source: audio, target: tgt_text, prefix: tgt_lang}}
  batch: {{max_frames: 400}}
  max_tokens: 60
"""
    )
    assert main(["check", str(config), "--rows"]) == 0
    out = capsys.readouterr().out
    assert "st: 6 examples" in out and "st: left out 1: more than max_tokens 60" in out
    assert f"{manifest}:7: long: more than max_tokens" in out
    assert main(["check", str(config), "streams=[]"]) == 1
    assert "at least one is needed" in capsys.readouterr().err


def test_missing_files_are_one_line(tmp_path, capsys):
    none = str(tmp_path / "none")
    for arguments in (
        ["validate", none],
        ["stats", none],
        ["prepare", none, none],
        ["cmvn", none, "--out", none],
        ["convert", none, none, "--from", "kaldi"],
        ["convert", none, none, "--from", "fairseq"],
        ["check", none],
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {none}") and error.count("\n") == 1
