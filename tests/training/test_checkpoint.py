"""Checkpoints are whole or not there, whatever happens while they are written."""

import errno
import multiprocessing
import os
import resource
import signal

import pytest
import torch
from torch import nn

from stk.config.run import CheckpointConfig
from stk.data.vocab import CharVocab, load_vocab
from stk.errors import StkError
from stk.training import checkpoint
from stk.training.average import average_checkpoints
from stk.training.checkpoint import (
    Contents,
    load_model,
    load_state,
    resolve_checkpoint,
    save_checkpoint,
)
from stk.training.keep import Keeper
from stk.training.loop import train
from stk.training.tensors import gather_weights, load_weights, read_weights, write_weights


@pytest.fixture
def contents(config):
    weights = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(3)}
    return Contents(
        weights=weights, config=config(), vocabs={}, metrics={"update": 1}, state={"x": 1}
    )


def test_full_disk_is_one_line_and_older_ones_stay(contents, tmp_path, monkeypatch):
    keeper = Keeper(tmp_path, CheckpointConfig())
    keeper.save(1, contents)

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("_sync_one", "write_weights"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, full)
            with pytest.raises(StkError, match="update-00000002: .*No space left.*free some space"):
                keeper.save(2, contents)
    assert sorted(p.name for p in keeper.folder.iterdir()) == ["update-00000001"]
    assert load_state(resolve_checkpoint(tmp_path)) == {"x": 1}


def test_write_that_really_fails(contents, tmp_path):
    """A limit on file sizes makes the kernel itself refuse the write."""
    big = {"a.weight": torch.zeros(100_000)}
    state = {"x": torch.zeros(100_000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for part in ({"weights": big}, {"state": state}):
        broken = Contents(**{**vars(contents), **part})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(StkError, match="could not be written"):
                save_checkpoint(tmp_path / "update-00000001", broken)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.glob("*update*")) == list(tmp_path.glob(".*update*")) == []


def test_run_survives_a_full_disk(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        save = checkpoint.write_weights

        def full_later(path, *parts):
            if "00000008" in str(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save(path, *parts)

        patch.setattr(checkpoint, "write_weights", full_later)
        with pytest.raises(StkError, match="could not be written"):
            train(config())
    assert os.readlink(tmp_path / "run" / "last") == "checkpoints/update-00000004"
    assert train(config()).update == 12


def train_until_killed(config, contents, folder, during):
    """What a process of its own does until it kills itself."""
    after, saved = getattr(checkpoint, during), []

    def killed(*args):
        after(*args)
        saved.append(args)
        if during == "remove_checkpoint" or len(saved) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(checkpoint, during, killed)
    train(config)
    save_checkpoint(folder / "update-00000012", contents)


@pytest.mark.parametrize("during", ["_write", "_sync", "remove_checkpoint"])
def test_a_real_kill_while_saving(config, contents, tmp_path, during):
    """SIGKILL while a checkpoint is written, flushed or replaced: an older one is whole."""
    folder = tmp_path / "run" / "checkpoints"
    # Not a fork: autograd refuses to work in one after some of what other tests do.
    child = multiprocessing.get_context("spawn").Process(
        target=train_until_killed, args=(config(), contents, folder, during)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = [path.name for path in folder.iterdir()]
    assert any(name.startswith(".update-") for name in left)
    assert train(config()).update == 12
    assert sorted(p.name for p in folder.iterdir()) == ["update-00000008", "update-00000012"]
    for update in (8, 12):
        assert load_state(folder / f"update-{update:08d}")["progress"]["update"] == update


def test_vocabulary_of_other_weights_is_refused(config, tmp_path):
    """As many ids that mean other things."""
    train(config(training={"max_updates": 1}))
    place = (tmp_path / "run" / "last" / "vocab" / "text").resolve()
    own = load_vocab(place)
    CharVocab([chr(0x4E00 + i) for i in range(len(own) - 5)]).save(place)
    assert len(load_vocab(place)) == len(own)
    for use in (load_model, lambda path: average_checkpoints([path.resolve()], tmp_path / "mean")):
        with pytest.raises(StkError, match="vocab/text: vocabulary 'text' is not the one"):
            use(tmp_path / "run" / "last")
    CharVocab("ab").save(place)
    with pytest.raises(StkError, match="vocabulary 'text' is not the one"):
        load_model(tmp_path / "run")


def test_leftovers_of_a_kill_are_cleaned(contents, tmp_path):
    keeper = Keeper(tmp_path, CheckpointConfig())
    keeper.save(3, contents)
    (keeper.folder / ".update-00000004.part").mkdir()
    (keeper.folder / ".update-00000004.part" / "model.safetensors").write_bytes(b"half")
    (keeper.folder / ".update-00000001.old.part").mkdir()
    (keeper.folder / "update-00000009").mkdir()
    (tmp_path / "last").unlink()
    keeper.clean()
    assert keeper.updates() == [3]
    assert not list(keeper.folder.glob(".*"))
    assert os.readlink(tmp_path / "last") == "checkpoints/update-00000003"


def test_last_and_best_are_kept(contents, tmp_path):
    keeper = Keeper(tmp_path, CheckpointConfig(keep_last=2, keep_best=2), higher_is_better=True)
    for update, score in [(1, 5.0), (2, 9.0), (3, 7.0), (4, 1.0), (5, 9.0), (6, 2.0)]:
        kept = keeper.rank(update, score)
        assert kept == (update in (1, 2, 3, 5))
        keeper.save(update, contents)
    assert keeper.updates() == [2, 5, 6] and keeper.best() == [2, 5]
    assert os.readlink(tmp_path / "best") == "checkpoints/update-00000002"
    assert not keeper.rank(7, float("nan")) and keeper.best() == [2, 5]
    none = Keeper(tmp_path / "none", CheckpointConfig(keep_best=0))
    assert none.rank(1, 1.0) is False


def test_replacing_a_checkpoint(contents, tmp_path):
    save_checkpoint(tmp_path / "c", contents)
    save_checkpoint(tmp_path / "c", Contents(**{**vars(contents), "state": {"x": 2}}))
    assert load_state(tmp_path / "c") == {"x": 2}


def test_resolve_and_damage(contents, tmp_path):
    with pytest.raises(StkError, match="no such checkpoint"):
        resolve_checkpoint(tmp_path / "absent")
    with pytest.raises(StkError, match="holds no checkpoint"):
        resolve_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "c", contents)
    (tmp_path / "c" / "state.pt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(StkError, match=r"state.pt: damaged"):
        load_state(tmp_path / "c")
    (tmp_path / "c" / "state.pt").unlink()
    with pytest.raises(StkError, match="no training state"):
        load_state(tmp_path / "c")
    whole = (tmp_path / "c" / "model.safetensors").read_bytes()
    (tmp_path / "c" / "model.safetensors").write_bytes(whole[:-4])
    with pytest.raises(StkError, match="not a whole safetensors file"):
        read_weights(tmp_path / "c" / "model.safetensors")


def test_tied_weights_are_stored_once(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    model["b"].weight = model["a"].weight
    write_weights(tmp_path / "w", gather_weights(model))
    assert (tmp_path / "w").stat().st_size < 4 * (2 * 12 + 8) + 400
    weights = read_weights(tmp_path / "w")
    assert weights["a.weight"] is weights["b.weight"] and len(weights) == 4
    assert gather_weights(model, keep=False) == {}
    other = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    load_weights(other, weights, file=tmp_path / "w")
    assert torch.equal(other["b"].weight, model["a"].weight)
    with pytest.raises(StkError, match="missing: c.bias; unknown: a.bias, a.weight"):
        wrong = nn.ModuleDict({"c": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
        del wrong["c"]._parameters["weight"]
        load_weights(wrong, weights, file=tmp_path / "w")
    with pytest.raises(StkError, match="of another shape: a.weight"):
        wrong = nn.ModuleDict({"a": nn.Linear(2, 4), "b": nn.Linear(3, 4)})
        load_weights(wrong, weights, file=tmp_path / "w")
