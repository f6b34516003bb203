"""What setup.py decides and says, without compiling anything."""

from __future__ import annotations

import os
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def torch_with(cuda: str | None) -> Any:
    return SimpleNamespace(version=SimpleNamespace(cuda=cuda), __version__="2.11.0")


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of setup.py."""
    for name in ("STK_CUDA", "STK_BUILD", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup_functions")


@pytest.fixture
def nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A compiler that says it is CUDA 12.8 and lives elsewhere than its wrapper."""
    program = tmp_path / "wrapper" / "bin" / "nvcc"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "Cuda compilation tools, release 12.8, V12.8.1"; '
        f'else echo "#$ TOP={tmp_path}/real/bin/.." >&2; fi\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "real" / "bin").mkdir(parents=True)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "wrapper"))
    return program


def test_finds_the_toolkit_behind_a_wrapper(setup: dict[str, Any], nvcc: Path) -> None:
    assert setup["toolkit"]() == (nvcc.parents[2] / "real", "12.8")
    assert setup["cuda_toolkit"](torch_with("12.6")) == nvcc.parents[2] / "real"


def test_mismatched_compiler(
    setup: dict[str, Any], nvcc: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setup["cuda_toolkit"](torch_with("13.0")) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "nvcc is CUDA 12.8 but torch has 13.0" in said
    monkeypatch.setenv("STK_CUDA", "1")
    with pytest.raises(SystemExit, match="STK_CUDA=1, but nvcc is CUDA 12.8"):
        setup["cuda_toolkit"](torch_with("13.0"))
    monkeypatch.setenv("STK_CUDA", "0")
    assert setup["cuda_toolkit"](torch_with("12.8")) is None
    assert capsys.readouterr().err == ""


def test_torch_without_cuda(setup: dict[str, Any], nvcc: Path, capsys: Any) -> None:
    assert setup["cuda_toolkit"](torch_with(None)) is None
    assert "CPU kernels only: this torch has no CUDA" in capsys.readouterr().err


def test_no_compiler_is_one_line(
    setup: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))  # with no bin/nvcc in it
    assert setup["cuda_toolkit"](torch_with("13.0")) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "CPU kernels only: no nvcc found; put CUDA 13.0" in said
    monkeypatch.setenv("STK_CUDA", "1")
    with pytest.raises(SystemExit, match="STK_CUDA=1, but no nvcc found"):
        setup["cuda_toolkit"](torch_with("13.0"))


def test_headers_and_libraries_of_the_cuda_wheels_are_found(
    setup: dict[str, Any], tmp_path: Path
) -> None:
    site = tmp_path / "site-packages"
    for folder in ("torch", "nvidia/cu13/include", "nvidia/cu13/lib", "nvidia/nccl/include"):
        (site / folder).mkdir(parents=True)
    (site / "nvidia/cu13/lib/libcudart.so.13").touch()
    torch = torch_with("13.0")
    torch.__file__ = str(site / "torch" / "__init__.py")
    folders = [str(site / "nvidia" / name / "include") for name in ("cu13", "nccl")]
    assert setup["wheel_dirs"](torch, "include") == folders
    found = setup["cudart"](torch, tmp_path / "toolkit")
    assert found == ([str(site / "nvidia/cu13/lib")], ["-l:libcudart.so.13"])
    (site / "nvidia/cu13/lib/libcudart.so.13").unlink()
    with pytest.raises(SystemExit, match=r"stk: no libcudart\.so\.13 in "):
        setup["cudart"](torch, tmp_path / "toolkit")


def test_switches(setup: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("STK_CUDA", "yes")
    with pytest.raises(SystemExit, match="STK_CUDA=yes is not understood: use 0 or 1"):
        setup["switch"]("STK_CUDA")
    monkeypatch.setenv("STK_BUILD", "0")
    assert setup["build_commands"]() == ([], {})
    monkeypatch.setenv("STK_BUILD", "1")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert setup["build_commands"]() == ([], {})
    assert "no C++ compiler" in capsys.readouterr().err


def test_without_torch_one_line_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("stk: ")]
    assert len(said) == 1 and "torch is not installed" in said[0]
    assert "pip install --no-build-isolation" in said[0]
