"""flite, an engine unrelated to espeak-ng, for a test set in voices of another kind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import debs

from stk.errors import StkError

VOICES = ("slt", "rms", "awb", "kal16")
"""Its English voices of 16 kHz."""

PACKAGES = ("flite", "libflite1", "libasound2t64|libasound2")
"""Debian's packages of it, and the one library that a small installation lacks."""


class Flite:
    """The installed program, or Debian's unpacked into ``directory``.

    Raises:
        StkError: neither is to be had, or it does not start.
    """

    def __init__(self, directory: Path) -> None:
        self._environment = dict(os.environ)
        installed = shutil.which("flite")
        if installed is None:
            debs.unpack(PACKAGES, directory)
            libraries = sorted({str(path.parent) for path in directory.glob("usr/lib/**/*.so.*")})
            self._environment["LD_LIBRARY_PATH"] = ":".join(libraries)
            installed = str(directory / "usr" / "bin" / "flite")
        self._program = installed
        listed = self._run("-lv")
        missing = set(VOICES) - set(listed.split())
        if missing:
            raise StkError(f"flite lacks the voices {', '.join(sorted(missing))}")

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self._program, *arguments],
                env=self._environment,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise StkError(f"flite does not start: {error.strerror}", file=self._program) from error
        if done.returncode != 0:
            said = (done.stderr.strip() or "no message").splitlines()[-1]
            raise StkError(f"flite fails: {said}", file=self._program)
        return done.stdout

    def speak(self, text: str, voice: str, path: Path) -> None:
        """Speak into a WAV file, 16-bit, mono, 16 kHz."""
        self._run("-voice", voice, "-t", text, "-o", str(path))
        if not path.is_file():
            raise StkError(f"flite wrote nothing for {text!r}", file=path)
