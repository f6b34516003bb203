"""Calling run.sh of a copied recipe with this interpreter's stk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("train", "average", "decode", "score", "data")


def copy_of_recipes(tmp_path: Path) -> Path:
    """A copy of the recipes without anything that runs left in them."""
    shutil.copytree(
        ROOT / "recipes",
        tmp_path / "recipes",
        ignore=shutil.ignore_patterns("exp", "downloads", "__pycache__"),
    )
    return tmp_path / "recipes"


def stand_ins(programs: Path, warm: Path | None = None) -> dict[str, str]:
    """Write the programs that run.sh calls; the environment in which it finds them.

    Args:
        programs: directory to write them to.
        warm: the socket of a process that runs them, which saves loading torch each time; None:
            every call is an interpreter of its own.
    """
    programs.mkdir(parents=True, exist_ok=True)
    client = f'"{sys.executable}" -SE "{Path(__file__).with_name("warm_client.py")}" "{warm}"'
    own = {f"stk-{name}": f'exec "{sys.executable}" -m stk.cli.{name} "$@"' for name in COMMANDS}
    own["python"] = f'exec "{sys.executable}" "$@"'
    if warm is not None:
        own |= {f"stk-{name}": f'exec {client} {name} "$@"' for name in COMMANDS}
        own["python"] = f'[[ ${{1:-}} != *.py ]] || exec {client} python "$@"\n{own["python"]}'
    for name, line in own.items():
        program = programs / name
        program.write_text(f"#!/bin/bash\n{line}\n")
        program.chmod(0o755)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VIRTUAL_ENV=sys.prefix)
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    return environment


def run(
    script: Path, *arguments: str, programs: Path, warm: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Call run.sh with this interpreter's stk, whether or not it is installed."""
    environment = stand_ins(programs, warm)
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=environment
    )
