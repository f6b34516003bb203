"""gpu_check.py: what it makes of compute-sanitizer's words."""

from __future__ import annotations

import runpy
import stat
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("words", "status", "verdict"),
    [
        ("========= ERROR SUMMARY: 0 errors", 0, "clean: ERROR SUMMARY: 0 errors"),
        ("========= Error: Device not supported", 1, "refused the device: Error: Device not"),
        ("========= Invalid __global__ read of size 4", 3, "FOUND SOMETHING (status 3): Invalid"),
    ],
)
def test_verdicts(
    words: str, status: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\necho '{words}'\nexit {status}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    check = runpy.run_path(str(ROOT / "tests" / "gpu_check.py"))
    assert check["sanitize"]("memcheck").startswith(verdict)
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check["sanitize"]("memcheck") == "not run: compute-sanitizer is not on PATH"


def test_every_operator_has_a_bench() -> None:
    check = runpy.run_path(str(ROOT / "tests" / "gpu_check.py"))
    folders = {path.parent.name for path in (ROOT / "csrc").glob("*/*.cu")}
    assert set(check["OPS"]) == folders
    assert all((ROOT / "tests" / "bench" / f"bench_{op}.py").exists() for op in folders)
