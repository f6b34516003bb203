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


def run(script: Path, *arguments: str, programs: Path) -> subprocess.CompletedProcess[str]:
    """Call run.sh with this interpreter's stk, whether or not it is installed."""
    programs.mkdir(parents=True, exist_ok=True)
    own = {"python": "", **{f"stk-{name}": f" -m stk.cli.{name}" for name in COMMANDS}}
    for name, module in own.items():
        program = programs / name
        program.write_text(f'#!/bin/bash\nexec "{sys.executable}"{module} "$@"\n')
        program.chmod(0o755)
    environment = dict(os.environ, PYTHONPATH=str(ROOT), VIRTUAL_ENV=sys.prefix)
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=environment
    )
