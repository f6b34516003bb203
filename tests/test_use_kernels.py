"""examples/use_kernels installs and runs in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, **environment: str) -> str:
    """Output of a command that has to succeed, run outside the source tree."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "STK_KERNELS")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean | environment, cwd=ROOT.parent
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_installs_and_runs_in_a_clean_environment(tmp_path: Path) -> None:
    """Torch and the build tools come from this environment, so that nothing is downloaded."""
    place = tmp_path / "clean"
    venv.create(place, with_pip=True)
    python = str(place / "bin" / "python")
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # Everything installed here can be imported there, but stk itself (a checkout installed in place
    # leaves a .pth file or a finder here, which a .pth line does not follow).
    Path(purelib, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    source = tmp_path / "source"
    run("git", "clone", "--quiet", str(ROOT), str(source))
    install = (python, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation")
    run(*install, "--force-reinstall", str(source), STK_CUDA="0")
    run(*install, str(source / "examples" / "use_kernels"))
    where = run(python, "-c", "import stk; print(stk.__file__)").strip()
    assert Path(where).is_relative_to(place)
    said = run(str(place / "bin" / "use-kernels"))
    assert "segments of 64 values" in said
    assert "reference versions" not in said, "the kernels were not built"
    doctor = run(python, "-c", "from stk.ops import _library; print(_library.kernels_on())")
    assert doctor.strip().endswith("True")
    assert sys.version_info[:2] >= (3, 11)
