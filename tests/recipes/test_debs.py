"""Fetching Debian packages without installing them."""

from __future__ import annotations

import os
from pathlib import Path

import debs
import pytest
from debian_archive import Archive, needs_dpkg

from stk.errors import StkError


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    made = Archive(tmp_path / "archive")
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return made


def package(archive: Archive, name: str, root: Path) -> None:
    (root / "usr" / "share").mkdir(parents=True)
    (root / "usr" / "share" / name).write_text(name)
    archive.add(name, root)


@needs_dpkg
def test_unpacks_the_packages_that_are_known(archive: Archive, tmp_path: Path) -> None:
    package(archive, "hello", tmp_path / "one")
    package(archive, "newname", tmp_path / "two")
    debs.unpack(["hello", "oldname|newname"], Path("got/it"))
    found = sorted(path.name for path in (tmp_path / "got/it").rglob("*") if path.is_file())
    assert found == ["hello", "newname"]
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["it"]
    (archive.debs / "hello.deb").unlink()
    debs.unpack(["hello"], Path("got/it"))  # there already: nothing is asked of apt


@needs_dpkg
def test_failures_leave_nothing_and_say_why(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(StkError, match="package lists do not have this or that.*apt-get update"):
        debs.unpack(["this|that"], Path("got"))
    (archive.debs / "broken.deb").write_bytes(b"not a package")
    with pytest.raises(StkError, match="dpkg-deb -x failed"):
        debs.unpack(["broken"], Path("got"))
    assert not (tmp_path / "got").exists()
    assert not list(tmp_path.glob(".debs-*"))


def test_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StkError, match="apt-get is not on this machine"):
        debs.unpack(["hello"], tmp_path / "got")
