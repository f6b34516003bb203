"""stk-doctor tells what is there and names what does not match."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stk.cli import doctor
from stk.ops import _library


class Built:
    torch_version = torch.__version__
    cuda_version = "13.0"
    cuda_archs = "8.0;9.0+PTX"
    compiler = "12.2.0"


def report(
    monkeypatch: pytest.MonkeyPatch, built: Any, gpus: list[tuple[str, tuple[int, int]]]
) -> tuple[str, list[str]]:
    """The line on the kernels and the problems, for a build and a set of GPUs."""
    monkeypatch.setattr(_library, "EXTENSION", built)
    monkeypatch.setattr(_library, "BUILT", built is not None)
    monkeypatch.setattr(_library, "BUILT_CUDA", built is not None and bool(built.cuda_version))
    monkeypatch.setattr(_library, "REASON", "stk was installed without compiled kernels")
    monkeypatch.setattr(doctor, "_devices", lambda: gpus)
    rows, problems = doctor._report()
    return dict(rows)["kernels"], problems


def test_matching_build(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, problems = report(monkeypatch, Built, [("H200", (9, 0)), ("A40", (8, 6))])
    assert "CUDA 13.0 for 8.0;9.0+PTX" in kernels and not problems


def test_gpu_older_than_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    _, problems = report(monkeypatch, Built, [("T4", (7, 5))])
    assert len(problems) == 1 and "T4 is 7.5" in problems[0]
    assert "TORCH_CUDA_ARCH_LIST=7.5" in problems[0]


def test_gpu_without_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class CpuOnly(Built):
        cuda_version = ""
        cuda_archs = ""

    kernels, problems = report(monkeypatch, CpuOnly, [("H200", (9, 0))])
    assert "no CUDA" in kernels and "STK_CUDA=1" in problems[0]
    assert not report(monkeypatch, CpuOnly, [])[1]


def test_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, problems = report(monkeypatch, None, [])
    assert "not built" in kernels
    assert problems == [
        "stk was installed without compiled kernels; run `pip install --no-build-isolation .`"
    ]


@pytest.mark.parametrize(
    "archs, capability, covered",
    [
        ("8.0;9.0+PTX", (8, 9), True),
        ("8.0;9.0+PTX", (12, 0), True),
        ("8.0;9.0", (12, 0), False),
        ("8.6", (8, 0), False),
        ("9.0a", (9, 0), True),
        ("8.0 9.0", (9, 0), True),
        ("9.0+PTX", (8, 0), False),
    ],
)
def test_architectures(archs: str, capability: tuple[int, int], covered: bool) -> None:
    assert doctor._covers(archs, capability) is covered


def test_exit_status_and_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_report", lambda: ([("stk", "1")], ["nothing works"]))
    assert doctor.main([]) == 1
    assert "problem: nothing works" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "_report", lambda: ([("stk", "1")], []))
    assert doctor.main([]) == 0
    assert "no problems found" in capsys.readouterr().out
