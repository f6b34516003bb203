"""Every CUDA source compiles for the architectures that are built by default, without spills."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "csrc").glob("*/*.cu"))
ARCHITECTURES = ("80", "90")
# "<stack> bytes stack frame, <stores> bytes spill stores, <loads> bytes spill loads"
REPORT = re.compile(r"Function properties for (\S+)\s+.*?(\d+) bytes spill stores, (\d+) bytes")


def test_sources_are_split_from_torch() -> None:
    assert SOURCES, "no csrc/*/*.cu"
    for source in SOURCES:
        host = source.parent / f"{source.parent.name}_cuda.cpp"
        assert host.exists(), f"{source.name} has no host side {host.name}"
        text = source.read_text()
        assert not re.search(r"#include <(torch|ATen|c10)/", text), f"{source.name} includes torch"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiles_without_spills(source: Path, architecture: str, tmp_path: Path) -> None:
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup_functions")
    found = setup["toolkit"]()
    major = (torch.version.cuda or "").split(".")[0]
    if found is None or found[1].split(".")[0] != major:
        pytest.skip(f"nvcc {found and found[1]} does not go with torch's CUDA {torch.version.cuda}")
    include = [ROOT / "csrc", found[0] / "include", *setup["wheel_dirs"](torch, "include")]
    command = ["nvcc", "-std=c++17", *setup["NVCC_FLAGS"], "-cubin", "-Xptxas", "-v"]
    command += [f"-arch=sm_{architecture}", *(f"-I{path}" for path in include)]
    command += [str(source), "-o", str(tmp_path / "kernels.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = REPORT.findall(done.stderr)
    assert report, f"no resource report in {done.stderr[-3000:]}"
    spilling = [name for name, stores, loads in report if int(stores) or int(loads)]
    assert not spilling, f"spills: {', '.join(spilling)}"
