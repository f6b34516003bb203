"""The stages of wav2vec 2.0, XSTNet, Chimera and LNA as recipes/demo configures them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import stk
from stk.cli import average, decode, train
from stk.data.vocab import CharVocab
from stk.training.tensors import read_weights

CONF = Path(__file__).resolve().parents[2] / "recipes" / "demo" / "conf" / "systems"
SMALL = [
    "training.max_updates=2",
    "training.workers=0",
    "training.log_every=1",
    "training.worst_batch_first=false",
]
STILL = ["optim.lr=1e-12", "validation.every=2", "validation.decode.max_length=8"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with noise for speech, and the vocabulary."""
    monkeypatch.setenv("WORK", str(tmp_path))
    monkeypatch.delenv("RUN", raising=False)
    rng, data = np.random.default_rng(1), tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 6), ("dev", 2)):
        rows = []
        for i in range(count):
            soundfile.write(data / f"{name}{i}.flac", 0.1 * rng.standard_normal(19200), 16000)
            row: dict[str, Any] = {"id": f"{name}{i}", "audio": f"{name}{i}.flac", "duration": 1.2}
            texts = {"src_text": "one two", "src_lang": "en", "tgt_text": "eins", "tgt_lang": "de"}
            rows.append(json.dumps(row | texts) + "\n")
        (data / f"{name}.jsonl").write_text("".join(rows))
    CharVocab("entowis ", ("en", "de")).save(tmp_path / "vocab" / "joint")
    return tmp_path


def trained(work: Path, system: str, name: str, *more: str) -> None:
    """Train a step of a system and average its newest checkpoint, as systems.sh does."""
    (conf,) = (CONF / system).glob(f"?-{name}.yaml")
    assert train.main([str(conf), *SMALL, *more]) == 0
    out = ["--last", "1", "--output", str(work / "averaged" / name)]
    assert average.main([str(work / name), *out]) == 0


def weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    found = read_weights(run / "last" / "model.safetensors")
    return {n.removeprefix(part): v for n, v in found.items() if n.startswith(part)}


@pytest.mark.parametrize("system", ["xstnet", "chimera", "lna"])
def test_stages(system: str, work: Path) -> None:
    for name in ("wav2vec2", f"{system}-mt"):
        extra = ["validation.every=2"] if name == "wav2vec2" else []
        trained(work, system, name, *extra)
    trained(work, system, system, *STILL)
    close = {"rtol": 0.0, "atol": 1e-9}
    wave = weights(work / "wav2vec2", "encoder.")
    torch.testing.assert_close(weights(work / system, "encoder.wave."), wave, **close)
    parts = {"xstnet": ["encoder.stack."], "chimera": ["encoder.stack.", "memory."]}
    for part in ("decoder.", *parts.get(system, ["text_encoder.stack."])):
        found, wanted = (weights(work / run, part) for run in (system, f"{system}-mt"))
        assert found
        torch.testing.assert_close(found, wanted, **close)
    translator = stk.load(work / system, device="cpu", max_length=8)
    assert isinstance(translator.translate(work / "data" / "dev0.flac", target_lang="de").text, str)


def test_the_last_stage_of_xstnet_still_holds_text_translation(work: Path) -> None:
    for name in ("wav2vec2", "xstnet-mt"):
        trained(work, "xstnet", name, "validation.streams=[]")
    many = ["training.max_updates=12", "validation.every=12"]
    trained(work, "xstnet", "xstnet", *STILL, *many)
    lines = (work / "xstnet" / "metrics.jsonl").read_text().splitlines()
    seen = {key.split("/")[0] for line in lines for key in json.loads(line) if "/loss" in key}
    assert seen >= {"st", "asr", "mt"}


def test_self_training(work: Path) -> None:
    """Four runs and a step between them: labels of two shards are trained on beside gold."""
    for name in ("train", "dev"):
        rows = (work / "data" / f"{name}.jsonl").read_text()
        for kind in ("asr", "mt"):
            (work / "data" / f"{kind}-{name}.jsonl").write_text(rows)
    CharVocab("eins", ("de",)).save(work / "vocab" / "tgt")  # no space: outputs have letters
    system = "self-training-lm"
    trained(work, system, "wav2vec2", "validation.every=2")
    trained(work, system, "teacher", *STILL)
    made = work / "made" / "pseudo"
    for shard in (1, 2):
        assert (
            decode.main(
                [
                    *("--checkpoint", str(work / "averaged" / "teacher"), "--beam", "2"),
                    *("--manifest", str(work / "data" / "asr-train.jsonl"), "--device", "cpu"),
                    *("--shard", f"{shard}/2", "--pseudo-labels", str(made / f"{shard}.jsonl")),
                    *("--set", "min_length=2", "max_length=4"),
                ]
            )
            == 0
        )
    trained(work, system, "student", *STILL, "optim.lr=1e-3")
    trained(work, system, "self-training", *STILL)
    close = {"rtol": 0.0, "atol": 1e-9}
    wave, taught = weights(work / "wav2vec2", "encoder."), weights(work / "teacher", "encoder.")
    torch.testing.assert_close(taught, wave, **close)  # the encoder waits
    for part in ("encoder.", "decoder."):
        student, last = (weights(work / run, part) for run in ("student", "self-training"))
        torch.testing.assert_close(last, student, **close)
    trained(work, system, "lm", "validation.every=2")
    options = {"device": "cpu", "beam": 2, "max_length": 4}
    plain = stk.load(work / "self-training", **options)
    fused = stk.load(work / "self-training", lm=work / "lm", lm_weight=0.1, **options)
    clip = work / "data" / "dev0.flac"
    assert fused.translate(clip).score < plain.translate(clip).score
