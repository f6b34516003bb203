"""Several processes over gloo do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stk.training.distributed import Workers, blocks
from stk.training.metrics import read_metrics
from stk.training.tensors import read_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("several")


@pytest.fixture
def runs(tiny, digits, folder, tmp_path):
    """The folder in which every run of ``several.py`` left its files; made once."""
    if not (folder / "base.json").exists():
        base = tiny(
            model={"dropout": 0.0},
            optim={"clip": None},
            validation={"every": 2},
            checkpoint={"every": 1},
            training={"max_updates": 2},
        )
        # as many batches as 4 processes take in whole steps, so that epochs end alike
        digits(tmp_path / "train.jsonl", 64, 1)
        stream = base["streams"][0] | {"name": "dev"}
        base["validation"]["streams"] = [stream]
        (folder / "base.json").write_text(json.dumps(base))
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/training/several.py"), str(folder)],
            timeout=300,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        (folder / "done").touch()
    assert (folder / "done").exists(), "several.py failed before"
    return folder


def gradient(path):
    grads = torch.load(path, weights_only=True)
    return torch.cat([grads[name].flatten().double() for name in sorted(grads)]), sorted(grads)


def distance(one, other):
    (a, names), (b, others) = gradient(one), gradient(other)
    assert names == others
    return float((a - b).norm() / a.norm())


def losses(output, kind):
    return [m["loss"] for m in read_metrics(output / "metrics.jsonl") if m["kind"] == kind]


@pytest.mark.parametrize("name", ["four", "shares"])
def test_gradients_equal_one_process(runs, name):
    assert distance(runs / "alone.grad.1", runs / f"{name}.grad.1") < 1e-6
    assert distance(runs / "alone.grad.1", runs / "alone.grad.2") > 1e-2
    assert distance(runs / "alone.grad.2", runs / f"{name}.grad.2") < 1e-3
    for kind, count in (("train", 2), ("valid", 1)):
        alone = losses(runs / "alone", kind)
        assert len(alone) == count
        assert losses(runs / name, kind) == pytest.approx(alone, rel=1e-4)


def test_shares_are_saved_whole_and_resume_bit_for_bit(runs):
    assert losses(runs / "cut", "train") == losses(runs / "shares", "train")
    whole, again, alone = (
        read_weights(runs / name / "last" / "model.safetensors")
        for name in ("shares", "cut", "alone")
    )
    assert set(whole) == set(alone)
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name])
        torch.testing.assert_close(tensor, alone[name], rtol=1e-2, atol=1e-3)
    state = torch.load(runs / "cut" / "last" / "state.pt", weights_only=True)
    assert len(state["rng"]) == 2 and state["progress"]["update"] == 2


def test_streams_that_use_different_parts(runs):
    """The last micro-step leaves the decoder alone, yet its gradient from the first arrives."""
    assert distance(runs / "mixed1.grad.1", runs / "mixed2.grad.1") < 1e-6
    names = gradient(runs / "mixed2.grad.1")[1]
    assert any(name.startswith("decoder.layers") for name in names)
    assert any(name.startswith("ctc.") for name in names)


def test_all_skip_what_one_cannot_use(runs):
    rows = (runs / "poisoned" / "skipped_updates.txt").read_text().splitlines()
    assert len(rows) == 1
    update, ids = rows[0].split("\t")
    assert update == "2" and len(ids.split()) == 16
    written = sorted(path.name for path in runs.glob("poisoned.grad.*"))
    assert written == ["poisoned.grad.1", "poisoned.grad.3"]


def test_one_process_needs_no_group():
    alone = Workers(0, 1, torch.device("cpu"))
    assert alone.sum({"a": 1.5}) == {"a": 1.5} and alone.gather("x") == ["x"]
    assert alone.on_main(lambda: 3) == 3 and alone.is_main


def test_blocks_are_the_outermost_layers():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ModuleList([torch.nn.ReLU()]))
    model = torch.nn.Sequential(torch.nn.ModuleList([layer, torch.nn.Linear(2, 2)]))
    assert blocks(model) == [layer]
