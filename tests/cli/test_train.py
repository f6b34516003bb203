"""stk-train from the outside: learning a task, bad input, a real SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stk.cli import train as cli
from stk.cli.common import progress
from stk.data.vocab import CharVocab
from stk.training.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen")
WORDS = dict(zip("0123456789", NAMES, strict=True))


def write_pairs(path, rows, seed):
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for i in range(rows):
            source = "".join(draw.choice("0123456789") for _ in range(draw.randint(1, 2)))
            target = " ".join(WORDS[digit] for digit in source)
            row = {"id": f"{i}", "src_text": source, "src_lang": "en"}
            file.write(json.dumps(row | {"tgt_text": target, "tgt_lang": "nl"}) + "\n")


@pytest.fixture
def yaml_file(tmp_path):
    """A YAML file of a tiny run; returns its path."""
    write_pairs(tmp_path / "train.jsonl", 60, 1)
    CharVocab.of_texts(["0123456789", *WORDS.values(), "a b"], tags=["nl"]).save(tmp_path / "vocab")
    model = {"name": "text_transformer", "encoder_layers": 1, "decoder_layers": 1, "width": 48}
    objective = {"name": "cross_entropy", "source": "src_text", "source_view": "text"}
    config = {
        "output": str(tmp_path / "run"),
        "model": model
        | {"ffn": 96, "heads": 2, "norm": "pre", "dropout": 0.0, "tie": "all"}
        | {"source_view": "text", "target_view": "text"},
        "vocabularies": {"text": str(tmp_path / "vocab")},
        "streams": [
            {
                "name": "mt",
                "manifests": [str(tmp_path / "train.jsonl")],
                "objective": objective
                | {"target": "tgt_text", "target_view": "text", "smoothing": 0.0}
                | {"prefix": "tgt_lang"},
                "batch": {"max_examples": 30},
            }
        ],
        "optim": {"lr": 0.01},
        "schedule": {"name": "cosine", "warmup": 20, "total": 250},
        "checkpoint": {"every": 1000},
        "training": {"max_updates": 250, "log_every": 50, "workers": 0, "device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_learns_a_tiny_task(yaml_file, tmp_path):
    manifest = str(tmp_path / "train.jsonl")
    overrides = ["validation.by=chrf", f"validation.decode_manifest={manifest}"]
    overrides += ["validation.every=250", "validation.decode_examples=30"]
    assert cli.main([str(yaml_file), *overrides]) == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["update"] for line in lines if line["kind"] == "train"] == [50, 100, 150, 200, 250]
    valid = [line for line in lines if line["kind"] == "valid"]
    assert len(valid) == 1 and valid[0]["chrf"] > 90 and valid[0]["wer"] < 20
    assert os.readlink(tmp_path / "run" / "best") == "checkpoints/update-00000250"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lrate=1", "unknown key 'optim.lrate' (nearest known key: lr)"),
        ("model.name=text_transfomer", "unknown model 'text_transfomer'"),
        ("freeze=[{pattern: nothing}]", "freeze: 'nothing' matches no parameter"),
        ("training.device=cuda", "PyTorch sees no GPU"),
        ("schedule.total=5", "warmup must lie below total"),
        ("helpers={teacher: nowhere}", "nowhere: no such checkpoint"),
        ("init_from=[{checkpoint: nowhere, components: {encoder: encoder}}]", "no such checkpoint"),
        ("vocabularies.text=nowhere", "nowhere"),
        ("vocabularies={}", "the model needs the vocabulary view 'text'"),
        ("scalars={x: [[5, 1.0], [2, 0.0]]}", "rising order"),
        ("mixing.temperature=0", "temperature must be above 0"),
    ],
)
def test_bad_settings_are_one_line(yaml_file, override, line, capsys):
    if override == "vocabularies={}":
        text = yaml.safe_load(yaml_file.read_text()) | {"vocabularies": {}}
        yaml_file.write_text(yaml.safe_dump(text))
        override = "seed=1"
    if override.endswith("=cuda"):
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    assert cli.main([str(yaml_file), override]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len([text for text in error if text.startswith("error: ")]) == 1
    assert line in error[-1] and "Traceback" not in "\n".join(error)


def test_skip_bad_writes_a_list(yaml_file, tmp_path, capsys):
    with open(tmp_path / "train.jsonl", "a", encoding="utf-8") as file:
        file.write('{"id": "empty", "src_text": "1", "tgt_text": " ", "tgt_lang": "nl"}\n')
    assert cli.main([str(yaml_file), "training.max_updates=1"]) == 1
    assert "train.jsonl:61:" in capsys.readouterr().err
    assert cli.main([str(yaml_file), "training.max_updates=1", "training.skip_bad=true"]) == 0
    listed = (tmp_path / "run" / "skipped_rows.txt").read_text().splitlines()
    assert len(listed) == 1 and "train.jsonl:61:" in listed[0]


def test_print_config_reads_back(yaml_file, tmp_path, capsys):
    assert cli.main([str(yaml_file), "--print-config", "seed=7"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert cli.main([str(tmp_path / "again.yaml"), "--print-config"]) == 0
    assert "seed: 7" in capsys.readouterr().out


def test_torchrun_with_two_processes(yaml_file, tmp_path):
    """The command of the manual, as two processes: the losses of one that accumulates two."""
    config = yaml.safe_load(yaml_file.read_text())
    config["streams"][0]["batch"] = {"max_examples": 15}
    yaml_file.write_text(yaml.safe_dump(config))
    steps = ["training.max_updates=3", "training.log_every=1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", "-m", "stk.cli.train", str(yaml_file), *steps]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("stopped after update 3") == 1  # one of them speaks
    alone = str(tmp_path / "alone")
    assert cli.main([str(yaml_file), *steps, "training.accumulate=2", f"output={alone}"]) == 0
    both, one = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "alone"))
    assert [line["update"] for line in both] == [1, 2, 3]
    losses = [[line["loss"] for line in lines] for lines in (both, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_progress_that_is_over_at_once_leaves_no_line(capsys):
    assert list(progress(range(3), title="look", brief=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress(range(3), title="look", brief=True, every=0.0)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[-1].startswith("look: 3/3, ")
    assert list(progress(range(3), title="look")) == [0, 1, 2]
    assert capsys.readouterr().err.startswith("look: 3/3, ")


KILLER = """
import os, signal, sys
from stk.cli import train
from stk.training.learner import Learner
update = Learner.update
def dying(self, window, wishes):
    if self.progress.update == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, window, wishes)
Learner.update = dying
sys.exit(train.main(sys.argv[2:]))
"""


def test_a_real_kill(yaml_file, tmp_path):
    """SIGKILL between checkpoints: the same command goes on and reproduces every loss."""
    short = ["training.max_updates=9", "training.log_every=1", "checkpoint.every=3"]
    short += ["model.dropout=0.1"]
    command = [sys.executable, "-c", KILLER, "5", str(yaml_file), *short]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, timeout=60, capture_output=True, cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    assert cli.main([str(yaml_file), *short]) == 0
    assert cli.main([str(yaml_file), *short, f"output={tmp_path / 'whole'}"]) == 0
    runs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "whole")]
    one, other = ([(line["update"], line["loss"]) for line in lines] for lines in runs)
    assert one == other and len(one) == 9
