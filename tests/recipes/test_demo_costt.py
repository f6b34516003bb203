"""The three stages of COSTT as recipes/demo configures them, on a few clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import stk
from stk.cli import average, decode, score, train
from stk.data.vocab import CharVocab
from stk.training.tensors import read_weights

CONF = Path(__file__).resolve().parents[2] / "recipes" / "demo" / "conf" / "systems" / "costt"
NAMES = ("costt-decoder", "costt-acoustic", "costt")
SMALL = [
    "training.max_updates=4",
    "training.workers=0",
    "training.log_every=2",
    "validation.streams=[]",
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with noise for speech, and the vocabularies."""
    monkeypatch.setenv("WORK", str(tmp_path))
    monkeypatch.setenv("SIZE", "tiny")
    monkeypatch.delenv("RUN", raising=False)
    rng, data = np.random.default_rng(1), tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 8), ("dev", 2)):
        rows = []
        for i in range(count):
            soundfile.write(data / f"{name}{i}.flac", 0.1 * rng.standard_normal(9600), 16000)
            row: dict[str, Any] = {"id": f"{name}{i}", "audio": f"{name}{i}.flac", "duration": 0.6}
            texts = {"src_text": "one two", "src_lang": "en", "tgt_text": "eins", "tgt_lang": "de"}
            rows.append(json.dumps(row | texts) + "\n")
        for kind in ("", "asr-", "mt-"):
            (data / f"{kind}{name}.jsonl").write_text("".join(rows))
    CharVocab("entowis ", ("asr", "ast")).save(tmp_path / "vocab" / "joint")
    CharVocab("entow ").save(tmp_path / "vocab" / "ctc")
    return tmp_path


def trained(work: Path, name: str, *more: str) -> int:
    """Train a stage and average its newest checkpoint, as systems.sh does."""
    conf = CONF / f"{NAMES.index(name) + 1}-{name}.yaml"
    status = train.main([str(conf), *SMALL, *more])
    if status == 0:
        run = ["--last", "1", "--output", str(work / "averaged" / name)]
        assert average.main([str(work / name), *run]) == 0
    return status


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    found = read_weights(run / "last" / "model.safetensors")
    return {name: value for name, value in found.items() if name.startswith(f"{part}.")}


def test_three_stages_and_decoding(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("costt-decoder", "costt-acoustic"):
        assert trained(work, name) == 0
    assert trained(work, "costt", "optim.lr=1e-12") == 0
    for part, source in (("decoder", "decoder"), ("encoder", "acoustic"), ("ctc", "acoustic")):
        found, wanted = (
            weights(work / run, part) for run in ("costt", f"costt-{source}")
        )  # fmt: skip
        assert found.keys() == wanted.keys() and found
        torch.testing.assert_close(found, wanted, rtol=0.0, atol=1e-9)
    output, dev = work / "out.jsonl", work / "data" / "dev.jsonl"
    arguments = ["--checkpoint", str(work / "costt"), "--manifest", str(dev), "--nbest", "2"]
    arguments += ["--output", str(output), "--device", "cpu", "--set", "max_length=8"]
    assert decode.main(arguments) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    for row in rows:
        assert isinstance(row["transcript"], str) and isinstance(row["separated"], bool)
        assert row["separated"] or row["text"] == ""
        assert [row["text"], row["transcript"]] == [
            row["nbest"][0][k] for k in ("text", "transcript")
        ]
    reference = ["--ref", str(dev), "--json", str(work / "scores.json")]
    capsys.readouterr()
    assert score.main(["--hyp", str(output), "--field", "src_text", *reference]) == 0
    shown = json.loads((work / "scores.json").read_text())["scores"][0]
    from stk.scoring import wer

    heard = [row["transcript"] for row in rows]
    assert shown["value"] == pytest.approx(wer(heard, ["one two"] * 2).value)
    single = stk.load(work / "costt", device="cpu", max_length=8)
    assert single.translate(work / "data" / "dev0.flac").transcript == heard[0]


def test_a_triple_without_transcript(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in (("costt-decoder", "mt-"), ("costt-acoustic", "asr-")):
        manifest = work / "data" / f"{kind}train.jsonl"
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        del rows[2]["src_text"]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert trained(work, name) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"{manifest}:3: " in error and "lacks src_text" in error
