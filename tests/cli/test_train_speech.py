"""stk-train on sound, from a manifest to decoded scores: tones of a few pitches are words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

import stk
from stk.cli import train as cli
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.vocab import CharVocab
from stk.training.assemble import load_data
from stk.training.distributed import join
from stk.training.metrics import read_metrics

WORDS = {"a": 400.0, "b": 1500.0}


def write_tones(folder: Path, name: str, count: int, seed: int) -> Path:
    """Clips of four or five tones and a manifest over them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    rows = []
    for i in range(count):
        words = rng.choice(list(WORDS), size=int(rng.integers(4, 6)))
        text = " ".join(words)
        times = np.arange(2400) / 16000
        parts = [np.sin(2 * np.pi * WORDS[word] * times) * np.hanning(2400) for word in words]
        sound = 0.3 * np.concatenate(parts) + 0.001 * rng.standard_normal(2400 * len(words))
        soundfile.write(folder / f"{name}{i}.flac", sound, 16000)
        row = {"id": f"{name}{i}", "audio": f"{name}{i}.flac", "duration": len(sound) / 16000}
        rows.append(row | {"src_text": text, "src_lang": "en", "tgt_text": text, "tgt_lang": "de"})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a tiny run with everything on: speed, SpecAugment, CTC, a worker."""
    train, dev = (write_tones(tmp_path / "data", *a) for a in (("train", 48, 1), ("dev", 12, 2)))
    CharVocab(" ab", tags=["de"]).save(tmp_path / "vocab")
    objective = {"name": "joint", "target_view": "text", "prefix": "tgt_lang", "smoothing": 0.0}
    stream = {
        "name": "st",
        "manifests": [str(train)],
        "objective": objective | {"ctc_text": "src_text", "ctc_view": "text"},
        "batch": {"max_frames": 1200},
        "augment": {"speed": [0.9, 1.0, 1.1], "specaugment": "custom"}
        | {"freq_masks": 1, "freq_width": 4, "time_masks": 1, "time_width": 5},
    }
    model = {"name": "speech_transformer", "encoder_layers": 1, "decoder_layers": 1, "width": 32}
    model |= {"ffn": 64, "heads": 2, "conv_channels": 32, "dropout": 0.0}
    return {
        "output": str(tmp_path / "run"),
        "model": model | {"target_view": "text", "ctc_view": "text", "ctc_layer": 1},
        "features": {"num_mel_bins": 20},
        "vocabularies": {"text": str(tmp_path / "vocab")},
        "streams": [stream],
        "validation": {"every": 20, "by": "bleu", "decode_manifest": str(dev), "patience": 2}
        | {"streams": [stream | {"name": "dev", "manifests": [str(dev)]}]}
        | {"decode": {"beam": 1, "search": "ctc"}},
        "optim": {"lr": 0.005},
        "schedule": {"name": "inverse_sqrt", "warmup": 20},
        "training": {"max_updates": 400, "log_every": 20, "workers": 1, "device": "cpu"},
    }


def run(plain: dict[str, Any], tmp_path: Path, *overrides: str) -> int:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(plain))
    return cli.main([str(tmp_path / "run.yaml"), *overrides])


def test_learns_tones_and_stops_early(plain: dict[str, Any], tmp_path: Path) -> None:
    """Decoded BLEU chooses the best checkpoint and ends the run; the checkpoint translates."""
    assert run(plain, tmp_path) == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    valid = {line["update"]: line for line in lines if line["kind"] == "valid"}
    best = max(valid.values(), key=lambda line: line["bleu"])
    assert best["bleu"] > 80 and best["dev/ctc"] < valid[20]["dev/ctc"]
    assert max(valid) == best["update"] + 40 < 400
    assert (tmp_path / "run" / "best").resolve().name == f"update-{best['update']:08d}"
    translator = stk.load(tmp_path / "run", device="cpu", search="ctc")
    clip = tmp_path / "data" / "train0.flac"
    row = json.loads((tmp_path / "data" / "train.jsonl").read_text().splitlines()[0])
    assert translator.translate(clip, target_lang="de").text == row["tgt_text"]


def test_validation_is_never_augmented(plain: dict[str, Any]) -> None:
    data = load_data(build(RunConfig, plain), join("cpu"))
    rows = np.arange(4)
    (train,), (dev,) = data.streams, data.validation
    assert train.speeds == (0.9, 1.0, 1.1) and dev.speeds == ()

    def features(stream: Any, epoch: int) -> torch.Tensor:
        return stream.load(rows, seed=1, epoch=epoch)[0].source.data

    assert torch.equal(features(dev, 0), features(dev, 1))
    assert not torch.equal(features(train, 0), features(train, 1))
    unaugmented = plain["validation"]["streams"][0] | {"augment": {}}
    plain["validation"]["streams"] = [unaugmented]
    quiet = load_data(build(RunConfig, plain), join("cpu")).validation[0]
    assert torch.equal(features(dev, 0), features(quiet, 0))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_sound(
    plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """Without skip_bad one line with the manifest's row; with it a counted skip and a list."""
    plain |= {"validation": {}}
    short = ("training.max_updates=8", f"training.workers={workers}", "checkpoint.every=4")
    folder, manifest = tmp_path / "data", tmp_path / "data" / "train.jsonl"
    sound = (folder / "train3.flac").read_bytes()
    (folder / "train3.flac").write_bytes(sound[: len(sound) // 2])
    (folder / "train5.flac").write_bytes(b"no sound at all")
    (folder / "train7.flac").write_bytes(b"")
    (folder / "train9.flac").unlink()
    assert run(plain, tmp_path, *short) == 1
    error = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert len(error) == 1 and f"{manifest}:" in error[0] and ".flac: " in error[0]
    assert run(plain, tmp_path, *short, "training.skip_bad=true") == 0
    assert "4 bad rows were left out, listed in" in capsys.readouterr().err
    listed = (tmp_path / "run" / "skipped_rows.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in listed) == [
        f"{manifest}:{row}" for row in (10, 4, 6, 8)
    ]
