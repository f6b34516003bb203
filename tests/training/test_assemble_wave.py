"""What a run over samples is checked for before any data is read, and one that trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from stk.config.run import InitConfig, RunConfig
from stk.config.strict import build
from stk.errors import StkError
from stk.models.registry import build_model
from stk.training.assemble import load_data
from stk.training.distributed import join
from stk.training.init_from import init_from
from stk.training.loop import train

MODEL: dict[str, Any] = {
    "name": "wav2vec2",
    "preset": "tiny",
    "layers": 1,
    "width": 16,
    "ffn": 24,
    "heads": 2,
    "convolutions": [[8, 10, 5], *[[8, 3, 2]] * 4, *[[8, 2, 2]] * 2],
    "codes": 8,
    "target_dim": 8,
}


def run(folder: Path, model: dict[str, Any], **features: Any) -> RunConfig:
    """Audio alone: no vocabulary and no text."""
    rows = []
    for number in range(4):
        path = folder / f"{number}.wav"
        noise = np.random.default_rng(number).standard_normal(9000 + 800 * number) * 0.1
        soundfile.write(path, noise, 16000)
        rows.append({"id": str(number), "audio": str(path)})
    manifest = folder / "audio.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stream = {
        "name": "audio",
        "manifests": [str(manifest)],
        "objective": {"name": "contrastive", "distractors": 5},
        "batch": {"max_frames": 150},
    }
    keys = {
        "output": str(folder / "run"),
        "model": model,
        "features": {"kind": "waveform", "cmvn": "none", **features},
        "vocabularies": {},
        "streams": [stream],
        "training": {"max_updates": 2, "workers": 0, "device": "cpu"},
        "validation": {"streams": [stream], "every": 1},
    }
    return build(RunConfig, keys, where="run")


def test_pre_training_from_a_manifest_of_audio(tmp_path: Path) -> None:
    train(run(tmp_path, MODEL))
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    valid = [row for row in map(json.loads, lines) if row["kind"] == "valid"]
    assert len(valid) == 2
    assert (tmp_path / "run/last/model.safetensors").exists()


def test_samples_scaled_otherwise_than_the_encoder_wants(tmp_path: Path) -> None:
    workers = join("cpu")
    with pytest.raises(StkError, match="wants False.*normalize_waveform=false"):
        load_data(run(tmp_path, MODEL, normalize_waveform=True), workers)
    large = {**MODEL, "extractor_norm": "layer"}
    with pytest.raises(StkError, match="wants True.*normalize_waveform=true"):
        load_data(run(tmp_path, large), workers)


def test_a_checkpoint_of_the_other_norm_layout(tmp_path: Path) -> None:
    train(run(tmp_path, MODEL))
    sizes = ("layers", "width", "ffn", "heads", "convolutions")
    wave = {"preset": "tiny", **{key: MODEL[key] for key in sizes}}
    named = {"name": "wav2vec2_transformer", "preset": "tiny", "wave": wave}
    start = InitConfig(checkpoint=str(tmp_path / "run"), components={"encoder": "encoder"})
    copied = init_from(build_model(named, {"tgt": 9}, 1), start, {})
    assert "encoder.extractor.norms.0.weight" in copied.names
    wave |= {"extractor_norm": "layer", "norm": "pre"}
    with pytest.raises(StkError, match="extractor_norm: group, this model's layer .*=false"):
        init_from(build_model(named, {"tgt": 9}, 1), start, {})
