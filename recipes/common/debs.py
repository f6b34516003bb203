"""Files out of Debian packages, fetched and unpacked without installing anything."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stk.errors import StkError


def unpack(packages: Sequence[str], directory: Path) -> None:
    """Fetch packages with ``apt-get download`` and unpack them into ``directory``.

    Nothing is installed and no rights beyond those on ``directory`` are needed. The directory
    appears whole or not at all; one that exists is taken as done.

    Args:
        packages: names; ``a|b`` takes the first that the package lists know.
        directory: where the packages' files go (``usr/...``).

    Raises:
        StkError: no apt, a package that the lists do not have, a failed download.
    """
    directory = directory.resolve()
    if directory.is_dir():
        return
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise StkError(f"{tool} is not on this machine", mend="needs Debian or a relative")
    names = [_known(names.split("|")) for names in packages]
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".debs-") as scratch:
        debs, tree = Path(scratch, "debs"), Path(scratch, "tree")
        debs.mkdir()
        # As root, apt would hand the download to a user who may not write here.
        _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names], debs)
        for deb in sorted(debs.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(deb), str(tree)], debs)
        tree.rename(directory)


def _known(names: Sequence[str]) -> str:
    for name in names:
        shown = subprocess.run(
            ["apt-cache", "show", "--no-all-versions", name], capture_output=True, text=True
        )
        if shown.returncode == 0 and shown.stdout.strip():
            return name
    raise StkError(
        f"the package lists do not have {' or '.join(names)}",
        mend="run: apt-get update (needs root), on Debian or a relative",
    )


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise StkError(f"{' '.join(command[:2])} failed: {said}", mend="is the network there?")
