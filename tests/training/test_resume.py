"""A run that was broken off goes on as if nothing had happened."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from stk.errors import StkError
from stk.training import rng
from stk.training.hooks import HOOKS, HoldEntries
from stk.training.loop import train
from stk.training.metrics import MetricsFile, read_metrics
from stk.training.resume import differing_keys, flatten
from stk.training.tensors import read_weights


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the code under test catches it."""


def series(output):
    return [(m["update"], m["loss"]) for m in read_metrics(output / "metrics.jsonl")]


def crash(monkeypatch, at):
    from stk.training.learner import Learner

    update = Learner.update

    def dying(self, window, wishes):
        if self.progress.update == at:
            raise Killed
        return update(self, window, wishes)

    monkeypatch.setattr(Learner, "update", dying)


@pytest.mark.parametrize("at", [2, 5, 8])
def test_bit_for_bit_after_a_kill(config, tmp_path, monkeypatch, at):
    changes = {"training": {"accumulate": 2}, "freeze": [{"pattern": "encoder", "until": 6}]}
    train(config(output=str(tmp_path / "whole"), **changes))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        crash(patch, at)
        train(config(**changes))
    torch.rand(5), np.random.rand(5), random.random()
    (tmp_path / "run" / "metrics.jsonl").open("a").write('{"kind": "tr')
    assert train(config(**changes)).update == 12
    assert series(tmp_path / "run") == series(tmp_path / "whole")
    whole, again = (
        read_weights(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "run")
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_two_at_once(config, tmp_path):
    """A second training of the same output is refused while the first lives."""
    (tmp_path / "run").mkdir()
    script = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "run" / ".lock"], stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(StkError, match="run: another training writes here.*another output"):
            train(config(training={"max_updates": 1}))
    finally:
        other.kill()
        other.communicate()
    assert train(config(training={"max_updates": 1})).update == 1


def test_settings_that_differ(config, tmp_path, capsys):
    train(config(training={"max_updates": 4}))
    with pytest.raises(StkError, match=r"other settings: optim.lr, streams\[0\].weight.*--resume"):
        bad = config(optim={"lr": 0.1})
        stream = bad.streams[0].__class__(**{**vars(bad.streams[0]), "weight": 2.0})
        train(bad.__class__(**{**vars(bad), "streams": (stream,)}))
    assert train(config(training={"max_updates": 6, "workers": 1})).update == 6
    assert train(config(training={"max_updates": 8}, optim={"lr": 0.1}), resume=True).update == 8
    assert "settings that differ from before: optim.lr" in capsys.readouterr().err
    with pytest.raises(StkError, match="matches no parameter"):
        train(config(optim={"lr": 0.2}, freeze=[{"pattern": "none"}]), resume=True)
    with pytest.raises(StkError, match="other settings: optim.lr"):  # nothing was trained with it
        train(config(optim={"lr": 0.2}))
    assert train(config(training={"max_updates": 8}, optim={"lr": 0.1})).update == 8


def test_nothing_saved_means_from_the_start(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        crash(patch, 2)
        train(config())
    assert train(config(optim={"lr": 0.1}, training={"max_updates": 3})).update == 3
    assert [update for update, _ in series(tmp_path / "run")] == [1, 2, 3]


def test_changed_vocabulary_and_number_of_processes(config, tmp_path, monkeypatch):
    from stk.data.vocab import CharVocab
    from stk.training import resume

    train(config(training={"max_updates": 2}))
    vocab = tmp_path / "vocab"
    CharVocab.of_texts(["9876543210 qwertyuiopasdfghjklzxcvbnm"]).save(vocab)
    with pytest.raises(StkError, match="vocabularies text have changed"):
        train(config())
    many = type("Many", (), {"world": 3})
    state = {"vocabs": {}, "rng": [None]}
    with pytest.raises(StkError, match="started with 1 processes, and now there are 3"):
        resume.check_resumable(state, {}, {}, many, lenient=False)
    assert resume.check_resumable(state, {}, {}, many, lenient=True) == []


@pytest.mark.parametrize("edit", ["another word", "one row less"])
def test_edited_manifests_are_noticed(config, tmp_path, capsys, edit):
    """The same settings over other data would give other losses."""
    train(config(training={"max_updates": 4}))
    manifest = tmp_path / "train.jsonl"
    old = manifest.read_text()
    rows = old.splitlines(keepends=True)
    first = rows[0].replace(" ", "  ") if edit == "another word" else ""
    manifest.write_text("".join([first, *rows[1:]]))
    with pytest.raises(StkError, match="inputs changed .*: stream mt .*--resume"):
        train(config())
    manifest.write_text(old)
    assert train(config(training={"max_updates": 5})).update == 5
    manifest.write_text("".join(rows[1:]))
    assert train(config(), resume=True).update == 12
    assert "inputs that differ from before: stream mt" in capsys.readouterr().err


def test_a_changed_helper_is_noticed(config, tmp_path, capsys):
    """Another teacher under the same path would give other losses."""
    teacher = {"helpers": {"teacher": str(tmp_path / "teacher")}}
    train(config(output=str(tmp_path / "teacher"), training={"max_updates": 1}))
    train(config(training={"max_updates": 2}, **teacher))
    train(config(output=str(tmp_path / "teacher"), training={"max_updates": 2}))
    with pytest.raises(StkError, match="inputs changed .*: helper teacher .*--resume"):
        train(config(training={"max_updates": 3}, **teacher))
    assert train(config(training={"max_updates": 3}, **teacher), resume=True).update == 3
    assert "inputs that differ from before: helper teacher" in capsys.readouterr().err


def test_inputs_are_streams_sidecars_and_statistics(tmp_path):
    from stk.config.run import FeatureConfig
    from stk.data.sidecar import Sidecar, SidecarWriter
    from stk.features.cmvn import Cmvn, fingerprint
    from stk.features.frontend import FrontEnd
    from stk.objectives.base import CollateContext
    from stk.training.assemble import Data

    def inputs(mean, hash):
        with SidecarWriter(tmp_path / "teacher", hash) as writer:
            writer.add("a", {"x": torch.zeros(1)})
        features = FeatureConfig(cmvn="global", cmvn_file="cmvn.safetensors")
        cmvn = Cmvn(torch.full((80,), mean), torch.ones(80), 9, fingerprint(features))
        sidecars = {"teacher": Sidecar(tmp_path / "teacher")}
        context = CollateContext(vocabs={}, frontend=FrontEnd(features, cmvn), sidecars=sidecars)
        return Data(vocabs={}, context=context, streams=[], validation=[], skipped=None).inputs

    one, same = inputs(0.0, "x"), inputs(0.0, "x")
    assert one == same and set(one) == {"sidecar teacher", "features.cmvn_file"}
    assert inputs(0.5, "x")["features.cmvn_file"] != one["features.cmvn_file"]
    assert inputs(0.0, "y")["sidecar teacher"] != one["sidecar teacher"]


def test_flatten_and_differing_keys(config):
    assert flatten({"a": [{"b": 1}, 2], "c": {}}) == {"a[0].b": 1, "a[1]": 2, "c": {}}
    assert differing_keys(config(), config()) == []
    assert differing_keys(config(), config(seed=2)) == ["seed"]


def test_rng_round_trip(tmp_path):
    rng.seed_all(3)
    random.gauss(0, 1)
    np.random.standard_normal()
    torch.save(rng.capture(), tmp_path / "rng.pt")

    def draw():
        return (
            torch.rand(2).tolist(), np.random.standard_normal(3).tolist(),
            random.gauss(0, 1), random.random(),
        )  # fmt: skip

    first = draw()
    rng.restore(torch.load(tmp_path / "rng.pt", weights_only=True))
    with rng.undisturbed():
        assert draw() == first
    assert draw() == first


def test_metrics_after_a_kill(tmp_path):
    metrics = MetricsFile(tmp_path, 0)
    for update in (1, 2, 3):
        metrics.write("train", update, {"loss": float("inf") if update == 2 else 0.5})
    metrics.close()
    MetricsFile(tmp_path, 2).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"kind": "train", "update": 1, "loss": 0.5},
        {"kind": "train", "update": 2, "loss": None},
    ]


def test_dropout_stages(config, tmp_path, hook):
    seen = {}
    recording = hook(lambda model, step: seen.update({step + 1: model.decoder.dropout}))
    stages = {"name": "dropout_stages", "stages": [[3, 0.5], [5, 0.0]]}
    for name, parts in (("whole", [6]), ("cut", [3, 6])):
        for updates in parts:
            train(
                config(
                    output=str(tmp_path / name),
                    hooks=[stages, *recording],
                    training={"max_updates": updates, "worst_batch_first": False},
                )
            )
    assert seen[2] == 0.1 and seen[3] == seen[4] == 0.05 and seen[5] == seen[6] == 0.0
    whole, cut = (
        read_weights(tmp_path / n / "last" / "model.safetensors") for n in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    for wrong, said in (([], "rise"), ([[3, 0.5], [3, 0.1]], "rise"), ([[3, 1.5]], "in .0, 1.")):
        with pytest.raises(StkError, match=said):
            train(config(output=str(tmp_path / "bad"), hooks=[stages | {"stages": wrong}]))


def test_hold_entries(config, tmp_path):
    from safetensors.torch import load_file, save_file

    assert HOOKS["hold_entries"] is HoldEntries
    train(config(training={"max_updates": 1}))
    before = load_file(tmp_path / "run" / "last" / "model.safetensors")
    name = "encoder.stack.layers.0.ffn.first.weight"
    name = name if name in before else next(n for n, t in before.items() if t.dim() == 2)
    mask = torch.rand(before[name].shape, generator=torch.Generator().manual_seed(0)) < 0.5
    save_file({name: mask.to(torch.uint8)}, tmp_path / "masks.safetensors")
    hook = {"name": "hold_entries", "masks": str(tmp_path / "masks.safetensors")}
    tuned = config(
        output=str(tmp_path / "tuned"),
        hooks=[hook],
        optim={"weight_decay": 0.1},
        init_from=[{"checkpoint": str(tmp_path / "run"), "components": {"encoder": "encoder",
                                                                        "decoder": "decoder"}}],
    )  # fmt: skip
    train(tuned)
    after = load_file(tmp_path / "tuned" / "last" / "model.safetensors")
    assert torch.equal(after[name][~mask], before[name][~mask])
    assert bool((after[name][mask] != before[name][mask]).any())
    save_file({"nothing": mask.to(torch.uint8)}, tmp_path / "masks.safetensors")
    with pytest.raises(StkError, match="fits no parameter"):
        train(config(output=str(tmp_path / "bad"), hooks=[hook]))
    with pytest.raises(StkError, match="unknown hook 'hold'"):
        train(config(output=str(tmp_path / "bad"), hooks=[{"name": "hold"}]))
