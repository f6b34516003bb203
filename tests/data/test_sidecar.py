"""Sidecars: per-row tensors that know what made them."""

from __future__ import annotations

import pickle

import pytest
import torch

from stk.data.sidecar import Sidecar, SidecarWriter, made_by
from stk.errors import StkError

HASH = made_by(teacher="abc", k=8)


def rows(n=20):
    generator = torch.Generator().manual_seed(0)
    return {
        f"row/{i} é": {
            "ids": torch.randint(0, 99, (i % 5, 8), generator=generator, dtype=torch.int32),
            "weights": torch.rand((i % 5, 8), generator=generator).half(),
            "flags": torch.rand(i % 3, generator=generator) > 0.5,
        }
        for i in range(n)
    }


def write(path, values, by=HASH):
    with SidecarWriter(path, by) as writer:
        for name, tensors in values.items():
            writer.add(name, tensors)


def test_round_trip(tmp_path):
    values = rows()
    write(tmp_path / "s", values)
    first = Sidecar(tmp_path / "s", expect=HASH)
    for sidecar in (first, pickle.loads(pickle.dumps(first))):
        assert len(sidecar) == 20 and "row/3 é" in sidecar and "row/99 é" not in sidecar
        for name, tensors in values.items():
            found = sidecar[name]
            assert found.keys() == tensors.keys()
            for key, tensor in tensors.items():
                assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor)
    with pytest.raises(StkError, match="has no row 'none'"):
        first["none"]


def test_a_mismatch_is_an_error(tmp_path):
    write(tmp_path / "s", rows(3))
    with pytest.raises(StkError, match="was made by"):
        Sidecar(tmp_path / "s", expect=made_by(teacher="abd", k=8))
    frozen = pickle.dumps(Sidecar(tmp_path / "s"))
    write(tmp_path / "s", rows(3), by="other")
    with pytest.raises(StkError, match="was made by"):
        pickle.loads(frozen)
    assert made_by(a=1, b=2) == made_by(b=2, a=1) != made_by(a=2, b=1)


def test_missing_or_incomplete(tmp_path):
    with pytest.raises(StkError, match="not a complete sidecar"):
        Sidecar(tmp_path / "none")
    write(tmp_path / "s", rows(3))
    (tmp_path / "s" / "ids.bin").unlink()
    with pytest.raises(StkError, match="not a complete sidecar"):
        Sidecar(tmp_path / "s")


def test_a_failed_write_keeps_the_old(tmp_path):
    write(tmp_path / "s", rows(3))
    with (
        pytest.raises(StkError, match="stands twice"),
        SidecarWriter(tmp_path / "s", "x") as writer,
    ):
        writer.add("a", {"ids": torch.zeros(1, dtype=torch.int32)})
        writer.add("a", {"ids": torch.zeros(1, dtype=torch.int32)})
    assert len(Sidecar(tmp_path / "s", expect=HASH)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    "tensor", [torch.tensor(1.0), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2).double()]
)
def test_what_cannot_be_stored(tmp_path, tensor):
    with pytest.raises(StkError, match="cannot be stored"):
        write(tmp_path / "s", {"a": {"x": tensor}})


def test_rows_must_agree(tmp_path):
    with pytest.raises(StkError, match="the rows before"):
        write(tmp_path / "s", {"a": {"x": torch.zeros(1, 2)}, "b": {"x": torch.zeros(1, 3)}})
