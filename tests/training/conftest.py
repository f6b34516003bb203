"""A run small enough to train in a second: spelling digits, text to text."""

import json
import random
from dataclasses import dataclass

import pytest

from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.vocab import CharVocab
from stk.training.hooks import HOOKS, Hook

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OBJECTIVE = {"name": "cross_entropy", "source": "src_text", "source_view": "text"} | {
    "target": "tgt_text",
    "target_view": "text",
    "smoothing": 0.0,
}


def write_digits(path, rows, seed):
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(rows):
            digits = [draw.randrange(10) for _ in range(draw.randint(1, 3))]
            source = "".join(map(str, digits))
            target = " ".join(WORDS[d] for d in digits)
            row = {"id": f"{seed}-{i}", "src_text": source, "src_lang": "en"}
            file.write(json.dumps(row | {"tgt_text": target, "tgt_lang": "en"}) + "\n")


def merge(base, changes):
    """Nested mappings, the second over the first."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


@pytest.fixture
def digits():
    """The function that writes a manifest: ``digits(path, rows, seed)``."""
    return write_digits


@pytest.fixture
def tiny(tmp_path):
    """A function from changes to the plain configuration of a tiny run under ``tmp_path``."""
    write_digits(tmp_path / "train.jsonl", 40, 1)
    write_digits(tmp_path / "valid.jsonl", 10, 2)
    CharVocab.of_texts(["0123456789", *WORDS, "a b"]).save(tmp_path / "vocab")
    stream = {
        "name": "mt",
        "manifests": [str(tmp_path / "train.jsonl")],
        "objective": OBJECTIVE,
        "batch": {"max_examples": 8},
    }
    base = {
        "output": str(tmp_path / "run"),
        "model": {
            "name": "text_transformer",
            "encoder_layers": 1,
            "decoder_layers": 1,
            "width": 16,
            "ffn": 32,
            "heads": 2,
            "dropout": 0.1,
            "source_view": "text",
            "target_view": "text",
            "tie": "all",
        },
        "vocabularies": {"text": str(tmp_path / "vocab")},
        "streams": [stream],
        "optim": {"lr": 0.01},
        "schedule": {"name": "inverse_sqrt", "warmup": 4},
        "checkpoint": {"every": 4, "keep_last": 2},
        "training": {"max_updates": 12, "log_every": 1, "workers": 0, "device": "cpu"},
    }

    def make(**changes):
        return merge(base, changes)

    return make


@pytest.fixture
def config(tiny):
    """A function from changes to the tiny run's configuration."""
    return lambda **changes: build(RunConfig, tiny(**changes))


@pytest.fixture
def hook(monkeypatch):
    """A function that registers what to do after a step."""

    def register(action):
        @dataclass(frozen=True)
        class Config:
            pass

        class Acting(Hook):
            pass

        Acting.Config = Config
        Acting.after_step = lambda self, model, optimizer, step: action(model, step)
        monkeypatch.setitem(HOOKS, "acting", Acting)
        return [{"name": "acting"}]

    return register
