"""Tiny checkpoints with random weights, whose outputs differ between clips and languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.vocab import CharVocab
from stk.models.registry import build_model
from stk.training.checkpoint import Contents, save_checkpoint
from stk.training.tensors import gather_weights

LETTERS = " abcdefghij"
RATE = 16000
SIZES = {"encoder_layers": 2, "decoder_layers": 2, "width": 16, "ffn": 32, "heads": 2}


def vocab(letters: str = LETTERS) -> CharVocab:
    return CharVocab(letters, tags=("de", "fr", "asr"))


def checkpoint(
    directory: Path,
    *,
    kind: str = "speech",
    seed: int = 1,
    letters: str = LETTERS,
    streams: list[dict[str, Any]] | None = None,
    **model: Any,
) -> Path:
    """Write a checkpoint of an untrained model and return its directory.

    The decoder's weights are drawn wide, so that its outputs depend on what it hears.
    """
    speech = kind == "speech"
    if streams is None:
        source = {"source": "audio"} if speech else {"source": "src_text", "source_view": "tgt"}
        task = {"name": "cross_entropy", **source, "prefix": "tgt_lang"}
        streams = [stream("st", task)]
    named = {"name": f"{kind}_transformer", **SIZES, **model}
    if speech:
        named |= {"conv_channels": 8}
    else:
        named |= {"source_view": "tgt"}
    data = {
        "output": "out",
        "model": named,
        "vocabularies": {"tgt": "vocab"},
        "streams": streams,
        "training": {"max_updates": 1},
        **({"features": {"num_mel_bins": 20}} if speech else {}),
    }
    config = build(RunConfig, data)
    torch.manual_seed(seed)
    words = vocab(letters)
    network = build_model(named, {"tgt": len(words)}, 20 if speech else None)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0 if name.startswith("decoder") else 1.5)
    contents = Contents(
        weights=gather_weights(network),
        config=config,
        vocabs={"tgt": words},
        metrics={"update": 1},
    )
    save_checkpoint(directory, contents)
    return directory


def stream(name: str, objective: dict[str, Any]) -> dict[str, Any]:
    """A stream as a configuration file would have it."""
    batch = {"max_examples": 1}
    return {"name": name, "manifests": ["train.jsonl"], "objective": objective, "batch": batch}


def write_clip(path: Path, seconds: float, seed: int, rate: int = RATE, channels: int = 1) -> Path:
    """A few tones that come and go, different for every seed."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    sound = np.zeros_like(times)
    for _ in range(6):
        centre, pitch = rng.uniform(0, seconds), rng.uniform(150, 3500)
        sound += np.exp(-((times - centre) ** 2) / 0.01) * np.sin(2 * np.pi * pitch * times)
    sound = 0.1 * sound + 0.002 * rng.standard_normal(len(times))
    soundfile.write(path, np.stack([sound] * channels, axis=1).astype(np.float32), rate)
    return path
