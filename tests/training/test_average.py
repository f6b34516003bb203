"""Means of checkpoints."""

import pytest
import torch

from stk.cli import average as cli
from stk.errors import StkError
from stk.training.average import average_checkpoints, average_weights
from stk.training.checkpoint import load_model
from stk.training.loop import train
from stk.training.tensors import read_weights, write_weights


def put(path, **tensors):
    path.mkdir()
    write_weights(path / "model.safetensors", tensors)
    return path


def test_mean_in_fp32_and_floor_division(tmp_path):
    values = [
        torch.tensor([1.0, 2.0**-8]).bfloat16(),
        torch.tensor([1.0 + 2.0**-7, 0.0]).bfloat16(),
    ]
    paths = [
        put(tmp_path / str(i), half=value, count=torch.tensor(3 + i), x=torch.tensor([0.1 * i]))
        for i, value in enumerate([*values, values[0], values[0]])
    ]
    mean = average_weights(paths)
    stacked = torch.stack([read_weights(p / "model.safetensors")["half"].float() for p in paths])
    assert mean["half"].dtype == torch.bfloat16
    assert torch.equal(mean["half"], stacked.mean(0).bfloat16())
    assert mean["count"] == (3 + 4 + 5 + 6) // 4 and mean["count"].dtype == torch.int64
    torch.testing.assert_close(mean["x"], torch.tensor([0.15]))


def test_identical_checkpoints_are_the_identity(tmp_path):
    tensor = torch.randn(50)
    paths = [put(tmp_path / str(i), a=tensor, b=tensor.double()) for i in range(4)]
    mean = average_weights(paths)
    assert torch.equal(mean["a"], tensor) and torch.equal(mean["b"], tensor.double())


def test_what_does_not_belong_together(tmp_path):
    one = put(tmp_path / "1", a=torch.zeros(2))
    with pytest.raises(StkError, match="other tensors than .*1: b"):
        average_weights([one, put(tmp_path / "2", a=torch.zeros(2), b=torch.zeros(1))])
    with pytest.raises(StkError, match="other shapes than .*1: a"):
        average_weights([one, put(tmp_path / "3", a=torch.zeros(3))])
    with pytest.raises(StkError, match="nothing to average"):
        average_weights([])


def test_command(config, tmp_path, capsys):
    train(config(checkpoint={"every": 2, "keep_last": 3}, training={"max_updates": 6}))
    output = str(tmp_path / "mean")
    assert cli.main([str(tmp_path / "run"), "--last", "3", "--output", output]) == 0
    loaded = load_model(output)
    folder = tmp_path / "run" / "checkpoints"
    names = [f"update-{n:08d}" for n in (2, 4, 6)]
    parts = [read_weights(folder / name / "model.safetensors") for name in names]
    for name, tensor in loaded.model.state_dict().items():
        mean = torch.stack([part[name] for part in parts]).mean(0)
        torch.testing.assert_close(tensor, mean)
    assert loaded.config.vocabularies["text"].startswith(output)
    assert "update-00000006" in capsys.readouterr().err
    assert cli.main([str(folder / names[0]), "--output", output]) == 1
    assert "already exists" in capsys.readouterr().err
    assert cli.main([str(tmp_path / "run"), "--last", "4", "--output", "x"]) == 1
    assert "3 checkpoints are there, not 4" in capsys.readouterr().err
    with pytest.raises(StkError, match="already exists"):
        average_checkpoints([folder / names[0]], tmp_path / "mean")
