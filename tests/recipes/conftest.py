"""Makes the recipes' own modules importable, as run.sh does, and those that tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
for part in (
    "common",
    "demo/local",
    "tuxpaint/local",
    "must_c/local",
    "covost2/local",
    "bible_mt/local",
):
    sys.path.append(str(RECIPES / part))
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that runs commands of recipes; see warm.py."""
    path = tmp_path_factory.mktemp("warm") / "socket"
    server = Path(__file__).with_name("warm.py")
    environment = dict(os.environ, PYTHONPATH=str(RECIPES.parent), MPLBACKEND="agg")
    process = subprocess.Popen(
        [sys.executable, str(server), str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield path
    process.terminate()
    process.wait()
