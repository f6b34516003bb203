"""A manifest of a folder of sound files, for training on sound alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from stk.data.audio import audio_duration
from stk.data.example import Example
from stk.data.languages import check_language
from stk.data.manifest import SkipList
from stk.errors import StkError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
"""Files taken for sound, whatever the case of their letters."""


def find_sound(folder: str | Path) -> list[Path]:
    """Every sound file below a folder, by name; hidden files and folders are left out.

    Raises:
        StkError: no such folder, or no sound in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StkError("no such folder", file=folder, mend="name a folder of sound files")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise StkError(
            "no sound file in this folder", file=folder, mend=f"it looks for {' '.join(SUFFIXES)}"
        )
    return sorted(found)


def sound_examples(
    files: Iterable[Path],
    folder: str | Path,
    *,
    src_lang: str | None = None,
    speakers: bool = False,
    skip_bad: SkipList | None = None,
) -> Iterator[Example]:
    """One example a file: its place in the folder as id, its duration from the header.

    Args:
        files: below ``folder``, as :func:`find_sound` lists them.
        folder: against which ids are relative.
        src_lang: ISO 639 code of what is spoken; None leaves the field out.
        speakers: whether the first folder below ``folder`` names the speaker, as LibriSpeech and
            VoxPopuli have it.
        skip_bad: collects unreadable files instead of raising.

    Raises:
        StkError: a file that cannot be read or holds nothing; an unknown language; with
            ``speakers``, a file that lies in no folder.
    """
    if src_lang is not None:
        check_language(src_lang)
    stems: set[Path] = set()
    for path in files:
        relative = path.relative_to(folder)
        stem = relative.with_suffix("")
        name = relative if stem in stems else stem
        stems.add(stem)
        try:
            if speakers and len(relative.parts) == 1:
                raise StkError(
                    "lies in no speaker's folder", file=path, mend="leave --speakers out"
                )
            example = Example(
                id=name.as_posix(), audio=path.resolve(), duration=audio_duration(path)
            )
        except StkError as error:
            if skip_bad is None:
                raise
            skip_bad.add(error)
            continue
        speaker = relative.parts[0] if speakers else None
        yield dataclasses.replace(example, src_lang=src_lang, speaker=speaker)
