"""Whole runs: limits, validation, checkpoints kept, reports."""

import json
import os
import signal

import pytest
import torch

from stk.errors import StkError
from stk.training.checkpoint import load_model, load_state, resolve_checkpoint
from stk.training.loop import train
from stk.training.metrics import read_metrics


def losses(output, kind="train", key="loss"):
    return {
        m["update"]: m[key] for m in read_metrics(output / "metrics.jsonl") if m["kind"] == kind
    }


def checkpoints(output):
    return sorted(path.name for path in (output / "checkpoints").iterdir())


def test_run_writes_what_it_says(config, tmp_path, capsys):
    result = train(config())
    assert result.update == 12 and result.signal == 0 and "max_updates" in result.reason
    output = tmp_path / "run"
    assert checkpoints(output) == ["update-00000008", "update-00000012"]
    last = output / "last"
    assert os.readlink(last) == "checkpoints/update-00000012"
    assert not (output / "best").exists()
    names = {path.name for path in last.iterdir()}
    assert names == {"model.safetensors", "config.yaml", "vocab", "state.pt", "metrics.json"}
    assert list(losses(output)) == list(range(1, 13))
    error = capsys.readouterr().err
    assert "mt: 40 examples" in error and "update 12/12" in error
    assert "waited for input" in error
    loaded = load_model(output)
    assert not loaded.model.training and loaded.frontend is None
    assert loaded.config.vocabularies["text"].startswith(str(output / "checkpoints"))
    assert loaded.model.encoder.embedding is loaded.model.decoder.embedding
    state = load_state(resolve_checkpoint(output))
    assert state["progress"]["update"] == state["progress"]["micro_step"] == 12


def test_best_patience_and_higher_is_better(config, tmp_path):
    scores = iter([10.0, 30.0, 20.0, 25.0, 99.0])
    seen = []

    def decoded(model, workers):
        assert not model.training
        torch.rand(3)  # training must not notice
        seen.append(workers.rank)
        return {"bleu": next(scores), "chrf": 1.0, "wer": 1.0}

    validation = {
        "by": "bleu",
        "every": 2,
        "patience": 2,
        "decode_manifest": str(tmp_path / "valid.jsonl"),
    }
    result = train(config(validation=validation), validate_decoded=decoded)
    assert result.update == 8 and "no better validation" in result.reason
    output = tmp_path / "run"
    assert os.readlink(output / "best") == "checkpoints/update-00000004"
    assert resolve_checkpoint(output).name == "update-00000004"
    figures = json.loads((output / "best" / "metrics.json").read_text())
    assert figures == {"update": 4, "bleu": 30.0, "chrf": 1.0, "wer": 1.0}
    quiet = train(config(output=str(tmp_path / "quiet"), training={"max_updates": 8}))
    assert quiet.update == 8 and len(seen) == 4
    assert losses(output) == losses(tmp_path / "quiet")
    again = train(config(validation=validation), validate_decoded=decoded)
    assert again.update == 8 and len(seen) == 4


def test_a_score_that_is_not_finite_is_no_best(config, tmp_path):
    scores = iter([float("nan"), 3.0, 2.0, float("inf"), 4.0, 4.0])
    validation = {"by": "wer", "every": 2, "patience": 2}
    validation["decode_manifest"] = str(tmp_path / "valid.jsonl")
    result = train(
        config(validation=validation), validate_decoded=lambda model, workers: {"wer": next(scores)}
    )
    assert result.update == 10
    assert os.readlink(tmp_path / "run" / "best") == "checkpoints/update-00000006"


def test_validation_loss_and_limits(tiny, config, tmp_path):
    streams = [tiny()["streams"][0] | {"name": "dev", "manifests": [str(tmp_path / "valid.jsonl")]}]
    validation = {"streams": streams, "every": 5}
    result = train(config(validation=validation, training={"max_epochs": 2}))
    assert result.update == 10 and "max_epochs" in result.reason
    output = tmp_path / "run"
    valid = losses(output, "valid")
    assert list(valid) == [5, 10] and valid == losses(output, "valid", "dev/loss")
    best = 5 if valid[5] <= valid[10] else 10
    assert os.readlink(output / "best") == f"checkpoints/update-{best:08d}"
    timed = train(config(output=str(tmp_path / "timed"), training={"max_minutes": 1e-9}))
    assert timed.update == 1 and "max_minutes" in timed.reason
    assert checkpoints(tmp_path / "timed") == ["update-00000001"]


def test_too_long_rows_are_listed(tiny, config, tmp_path, capsys):
    streams = [tiny()["streams"][0] | {"max_tokens": 12}]
    train(config(streams=streams, training={"max_updates": 1}))
    listed = (tmp_path / "run" / "left_out.txt").read_text().splitlines()
    assert listed and all("max_tokens" in line and "train.jsonl:" in line for line in listed)
    assert f"left out {len(listed)}" in capsys.readouterr().err


def test_nonfinite_updates_are_skipped_and_listed(config, tmp_path, hook, monkeypatch):
    from stk.objectives.cross_entropy import CrossEntropy

    forward = CrossEntropy.forward

    def poisoned(self, model, batch, context):
        sums = forward(self, model, batch, context)
        if context.step in (3, 4):
            loss = sums["loss"]
            sums["loss"] = type(loss)(loss.value * float("nan"), loss.per, loss.weight)
        return sums

    weights = {}
    hooks = hook(lambda model, step: weights.update({step: model.decoder.embedding.weight.clone()}))
    monkeypatch.setattr(CrossEntropy, "forward", poisoned)
    train(config(hooks=hooks, training={"max_updates": 6, "worst_batch_first": False}))
    assert sorted(weights) == [1, 2, 3, 6]
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())
    output = tmp_path / "run"
    rows = (output / "skipped_updates.txt").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["4", "5"]
    assert all(len(row.split("\t")[1].split()) == 8 for row in rows)
    lines = {m["update"]: m for m in read_metrics(output / "metrics.jsonl")}
    assert lines[4]["loss"] is None and lines[6]["skipped"] == 2 and lines[6]["loss"] > 0
    with pytest.raises(StkError, match="2 updates in a row"):
        train(config(output=str(tmp_path / "stops"), training={"max_skips": 2}))


def test_signal_saves_and_the_run_goes_on(config, tmp_path, hook):
    whole = train(config(output=str(tmp_path / "whole")))
    assert whole.signal == 0
    hooks = hook(lambda model, step: os.kill(os.getpid(), signal.SIGTERM) if step == 6 else None)
    result = train(config(hooks=hooks))
    assert result.signal == signal.SIGTERM and result.update == 7
    output = tmp_path / "run"
    assert checkpoints(output)[-1] == "update-00000007"
    hook(lambda model, step: None)
    assert train(config(hooks=hooks)).update == 12
    assert losses(output) == losses(tmp_path / "whole")


def test_out_of_memory_is_one_line(config, monkeypatch):
    from stk.objectives.cross_entropy import CrossEntropy

    def explode(self, model, batch, context):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(CrossEntropy, "forward", explode)
    with pytest.raises(StkError, match=r"largest batch of stream 'mt' \(8 examples\).*cpu"):
        train(config())


def test_worst_batch_changes_nothing(config, tmp_path):
    train(config())
    train(config(output=str(tmp_path / "other"), training={"worst_batch_first": False}))
    assert losses(tmp_path / "run") == losses(tmp_path / "other")


def test_switches_reach_the_model(config, tmp_path, monkeypatch):
    """Recomputed activations and compiled layers give the same losses, bf16 nearly so."""
    compiled = []
    compile_module = torch.nn.Module.compile

    def eagerly(module, **keys):  # the same capture of graphs without minutes of code generation
        compiled.append(module)
        compile_module(module, backend="eager", **keys)

    monkeypatch.setattr(torch.nn.Module, "compile", eagerly)
    short = {"max_updates": 3, "worst_batch_first": False}

    def run(name, dropout, **switches):
        output, model = tmp_path / f"{name}{dropout}", {"dropout": dropout}
        train(config(output=str(output), model=model, training=short | switches))
        return losses(output)

    plain = run("plain", 0.1)
    assert run("recomputed", 0.1, activation_checkpointing=True) == plain
    half = run("half", 0.1, precision="bf16")
    assert half != plain and half == pytest.approx(plain, rel=0.05)
    plain = run("plain", 0.0)  # compiled layers draw other dropout masks
    assert run("compiled", 0.0, compile=True) == pytest.approx(plain, rel=1e-5)
    assert len(compiled) == 2  # an encoder layer and a decoder layer


def test_decoder_is_asked_for(config, tmp_path):
    validation = {"by": "bleu", "decode_manifest": str(tmp_path / "valid.jsonl")}
    with pytest.raises(StkError, match="no decoder"):
        train(config(validation=validation))


def test_progress_over_the_rows_that_are_looked_at(config, tmp_path):
    seen = []

    def track(rows, name):
        for row in rows:
            seen.append((name, row))
            yield row

    train(config(training={"max_updates": 1}), track=track)
    assert seen == [("mt", row) for row in range(40)]


def test_context_has_scalars_helpers_and_generate(config, tmp_path, monkeypatch):
    from stk.cli.judge import generator
    from stk.objectives.cross_entropy import CrossEntropy

    train(config(output=str(tmp_path / "teacher"), training={"max_updates": 1}))
    forward, seen = CrossEntropy.forward, []

    def looking(self, model, batch, context):
        helper = context.helpers["teacher"]
        assert not helper.training and not any(p.requires_grad for p in helper.parameters())
        written = context.generate(batch.source)
        assert len(written) == len(batch.ids) and model.training
        assert all(isinstance(token, int) for row in written for token in row)
        seen.append((context.step, context.scalars["tau"]))
        return forward(self, model, batch, context)

    monkeypatch.setattr(CrossEntropy, "forward", looking)
    run = config(
        helpers={"teacher": str(tmp_path / "teacher")},
        scalars={"tau": [[1, 2.0], [3, 1.0]]},
        training={"max_updates": 3, "worst_batch_first": False},
    )
    train(run, generate=generator(run))
    assert seen == [(0, 2.0), (1, 1.5), (2, 1.0)]
