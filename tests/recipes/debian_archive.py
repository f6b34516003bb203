"""A stand-in for Debian: real packages, built on the spot, and an apt that serves them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

needs_dpkg = pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine"
)


class Archive:
    """Programs ``apt-get`` and ``apt-cache`` that know the packages added here.

    ``programs`` is a directory to put first on PATH.
    """

    def __init__(self, directory: Path) -> None:
        self.programs = directory / "bin"
        self.debs = directory / "debs"
        for folder in (self.programs, self.debs):
            folder.mkdir(parents=True)
        self._program("apt-cache", f"[[ -f {self.debs}/${{!#}}.deb ]] && echo Package: ${{!#}}")
        self._program(
            "apt-get",
            f'while [[ $1 != download ]]; do shift; done; shift; for p; do cp {self.debs}/"$p".deb '
            '"${p}_1_all.deb"; done',
        )

    def _program(self, name: str, body: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def add(self, name: str, tree: Path) -> None:
        """Build a package of the files below ``tree``."""
        (tree / "DEBIAN").mkdir()
        control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\n"
        (tree / "DEBIAN" / "control").write_text(control + "Description: made for a test\n")
        command = ["dpkg-deb", "--build", "-Znone", str(tree), str(self.debs / f"{name}.deb")]
        subprocess.run(command, check=True, capture_output=True)
