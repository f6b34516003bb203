"""From a trained teacher to its sidecar to a student, through the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stk.cli import data as cli
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.sidecar import Sidecar
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.training.loop import train
from stk.training.metrics import read_metrics
from stk.training.tensors import read_weights


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """A teacher of spelling digits, trained for one update."""
    words = ["zero", "one", "two", "three"]
    rows = []
    for i in range(12):
        digits = [i % 4, (i // 4) % 4][: 1 + i % 2]
        row = {"id": f"r{i}", "src_text": "".join(map(str, digits)), "src_lang": "en"}
        row |= {"tgt_text": " ".join(words[d] for d in digits), "tgt_lang": "en"}
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "train.jsonl").write_text("".join(rows))
    CharVocab.of_texts(["0123", *words, "a b"]).save(tmp_path / "vocab")
    views = {"source_view": "text", "target_view": "text"}
    model = {"name": "text_transformer", "encoder_layers": 1, "decoder_layers": 1, "width": 16}
    model |= {"ffn": 32, "heads": 2, "dropout": 0.1, **views}
    objective = {"name": "cross_entropy", "source": "src_text", **views}
    stream = {"name": "mt", "manifests": [str(tmp_path / "train.jsonl")], "objective": objective}
    return {
        "output": str(tmp_path / "teacher"),
        "model": model,
        "vocabularies": {"text": str(tmp_path / "vocab")},
        "streams": [stream | {"batch": {"max_examples": 6}}],
        "optim": {"lr": 0.01},
        "schedule": {"name": "inverse_sqrt", "warmup": 2},
        "training": {"max_updates": 3, "log_every": 1, "workers": 0, "device": "cpu"},
    }


def student(plain: dict[str, Any], tmp_path: Path, name: str, **keys: Any) -> dict[str, Any]:
    """The plain configuration of a student of that teacher."""
    stream = plain["streams"][0]
    objective = {**stream["objective"], "name": "distillation", "teacher_view": "text", **keys}
    helpers = {"teacher": str(tmp_path / "teacher")}
    streams = [stream | {"objective": objective}]
    return plain | {
        "output": str(tmp_path / name),
        "streams": streams,
        "helpers": helpers,
        "seed": 5,
    }


def losses(run: Path) -> list[float]:
    return [line["mt/kd"] for line in read_metrics(run / "metrics.jsonl") if "mt/kd" in line]


def test_online_and_cached_agree_and_the_teacher_stays(
    plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(build(RunConfig, plain))
    weights = tmp_path / "teacher" / "last" / "model.safetensors"
    before = weights.read_bytes()
    size = len(CharVocab.of_texts(["0123", "zero", "one", "two", "three", "a b"]))
    arguments = [
        "teacher",
        str(tmp_path / "train.jsonl"),
        "--checkpoint",
        str(tmp_path / "teacher"),
    ]
    assert cli.main([*arguments, "--out", str(tmp_path / "cache"), "--top", str(size)]) == 0
    assert "12 rows" in capsys.readouterr().out
    row = Sidecar(tmp_path / "cache")["r1"]
    assert row["choices"].shape == (len("one zero") + 1, size) == row["probs"].shape
    torch.testing.assert_close(
        row["probs"].float().sum(1), torch.ones(len("one zero") + 1), atol=1e-2, rtol=0.0
    )
    online = student(plain, tmp_path, "online")
    cached = student(plain, tmp_path, "cached", sidecar="kd") | {
        "sidecars": {"kd": str(tmp_path / "cache")}
    }
    train(build(RunConfig, online))
    train(build(RunConfig, cached))
    assert losses(tmp_path / "online") == pytest.approx(losses(tmp_path / "cached"), rel=2e-3)
    assert len(losses(tmp_path / "online")) == 3 and weights.read_bytes() == before
    assert read_weights(weights).keys() == read_weights(
        tmp_path / "online" / "last" / "model.safetensors"
    ).keys()  # fmt: skip


def test_parameters_and_buffers_of_the_teacher_never_change(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(build(RunConfig, plain))
    from stk.training import learner

    seen: dict[str, Any] = {}
    load = learner.load_helpers

    def spy(*arguments: Any) -> Any:
        helpers = load(*arguments)
        seen["teacher"] = helpers["teacher"].model
        state = seen["teacher"].state_dict()
        seen["before"] = {name: value.clone() for name, value in state.items()}
        return helpers

    monkeypatch.setattr(learner, "load_helpers", spy)
    train(build(RunConfig, student(plain, tmp_path, "online")))
    teacher = seen["teacher"]
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(seen["before"][n], v) for n, v in teacher.state_dict().items())


def test_what_does_not_fit_is_one_line(
    plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(build(RunConfig, plain))
    base = ["teacher", str(tmp_path / "train.jsonl"), "--checkpoint", str(tmp_path / "teacher")]
    base += ["--out", str(tmp_path / "cache")]
    assert cli.main([*base, "--top", "999"]) == 1
    assert "top 999 does not lie between" in capsys.readouterr().err
    assert cli.main([*base, "--top", "2"]) == 0
    train(build(RunConfig, plain | {"output": str(tmp_path / "other"), "seed": 9}))
    wrong = student(plain, tmp_path, "st", sidecar="kd")
    wrong |= {"sidecars": {"kd": str(tmp_path / "cache")}}
    wrong |= {"helpers": {"teacher": str(tmp_path / "other")}}
    with pytest.raises(StkError, match="was made with weights"):
        train(build(RunConfig, wrong))
    CharVocab("0123abcdefghinoprtuvwz ").save(tmp_path / "foreign")
    foreign = student(plain, tmp_path, "st2") | {
        "vocabularies": {"text": str(tmp_path / "foreign")}
    }
    with pytest.raises(StkError, match="vocabulary 'text' is not this run's 'text'"):
        train(build(RunConfig, foreign))
