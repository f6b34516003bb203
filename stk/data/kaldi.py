"""Kaldi data directories in and out (Povey et al., 2011).

Files: ``wav.scp`` (recording, path), ``segments`` (utterance, recording, start, end; optional),
``text`` (utterance, transcript), ``utt2spk``, ``utt2lang``, and translations in ``text.LANG``. Ids
hold no whitespace; rows are sorted by the bytes of their ids.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from stk.data.atomic import write_text
from stk.data.audio import audio_duration
from stk.data.example import Example
from stk.data.languages import check_language
from stk.errors import StkError

Table = dict[str, tuple[int, str]]
"""Key -> (row, rest of the line)."""


def read_kaldi(
    directory: str | Path,
    *,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    tgt_text: str | Path | None = None,
) -> list[Example]:
    """Read a Kaldi data directory.

    Args:
        directory: with ``wav.scp`` at least; relative paths in it count from the working directory,
            as Kaldi has it.
        src_lang: language of the speech, where ``utt2lang`` is absent.
        tgt_lang: language of the translations; ``text.LANG`` is read if it is there.
        tgt_text: the file of translations, if it has another name.

    Raises:
        StkError: a missing file or key, a command in ``wav.scp``, an utterance that one file has
            and another lacks.
    """
    directory = Path(directory)
    recordings = _read(directory / "wav.scp")
    for row, path in recordings.values():
        if path.endswith("|") or path.startswith("|"):
            raise StkError(
                "a command instead of a path; commands are not run",
                file=directory / "wav.scp",
                row=row,
                mend="write the sound to files first",
            )
    segments = _segments(directory, recordings)
    columns = {"src_text": "text", "speaker": "utt2spk", "src_lang": "utt2lang"}
    tables = {k: _column(directory / name, segments) for k, name in columns.items()}
    if tgt_text is not None or tgt_lang is not None:
        translations = Path(tgt_text) if tgt_text else directory / f"text.{tgt_lang}"
        if tgt_text is not None and not translations.is_file():
            raise StkError("no such file of translations", file=translations)
        tables["tgt_text"] = _column(translations, segments)
    languages = {check_language(v) for v in (tables["src_lang"] or {}).values()}
    if src_lang is not None and languages - {src_lang}:
        raise StkError(f"utt2lang says {', '.join(sorted(languages))}, not {src_lang}")
    examples = []
    for name, (path, start, duration) in segments.items():
        values = {key: table[name] for key, table in tables.items() if table}
        values.setdefault("src_lang", src_lang or "")
        texts = {key: value for key, value in values.items() if value}
        if "tgt_text" in texts and tgt_lang is not None:
            texts["tgt_lang"] = tgt_lang
        audio = Path(os.path.abspath(path))
        examples.append(Example(id=name, audio=audio, start=start, duration=duration, **texts))  # type: ignore[arg-type]
    return examples


def _read(path: Path) -> Table:
    if not path.is_file():
        raise StkError("no such file", file=path, mend="is this a Kaldi data directory?")
    table: Table = {}
    with path.open(encoding="utf-8") as stream:
        for row, line in enumerate(stream, start=1):
            key, _, rest = line.strip().partition(" ") if "\t" not in line else _tabbed(line)
            if not key:
                raise StkError("an empty line", file=path, row=row, mend="delete it")
            if key in table:
                raise StkError(f"{key!r} stands already in row {table[key][0]}", file=path, row=row)
            table[key] = (row, rest.strip())
    return table


def _tabbed(line: str) -> tuple[str, str, str]:
    parts = line.strip().split(maxsplit=1)
    return (parts[0] if parts else "", " ", parts[1] if len(parts) > 1 else "")


def _segments(directory: Path, recordings: Table) -> dict[str, tuple[str, float, float | None]]:
    path = directory / "segments"
    if not path.is_file():
        return {name: (audio, 0.0, None) for name, (_, audio) in recordings.items()}
    found: dict[str, tuple[str, float, float | None]] = {}
    for name, (row, rest) in _read(path).items():
        try:
            recording, begin, end = rest.split()
            start, stop = float(begin), float(end)
        except ValueError:
            raise StkError(
                "expected utterance, recording, start, end", file=path, row=row
            ) from None
        if recording not in recordings:
            raise StkError(f"wav.scp has no recording {recording!r}", file=path, row=row)
        if start < 0 or (stop <= start and stop != -1):
            raise StkError(f"segment from {start} to {stop} s is empty", file=path, row=row)
        duration = None if stop == -1 else round(stop - start, 6)
        found[name] = (recordings[recording][1], start, duration)
    return found


def _column(
    path: Path, segments: dict[str, tuple[str, float, float | None]]
) -> dict[str, str] | None:
    """Values by utterance, which must be the same utterances; None where there is no file."""
    if not path.is_file():
        return None
    table = _read(path)
    for name in segments:
        if name not in table:
            raise StkError(f"has no utterance {name!r}", file=path, mend="utils/fix_data_dir.sh")
    for name, (row, _) in table.items():
        if name not in segments:
            raise StkError(f"utterance {name!r} has no sound", file=path, row=row)
    return {name: value for name, (_, value) in table.items()}


def write_kaldi(directory: str | Path, examples: Iterable[Example]) -> int:
    """Write a Kaldi data directory and return its number of utterances.

    ``segments`` is written where any example is a part of a file or has a duration. Speakers
    default to the utterance; ids are kept as they are, so prefix them with the speaker beforehand
    if Kaldi's scripts shall sort them by speaker.

    Raises:
        StkError: no sound, whitespace in an id or speaker, several target languages.
    """
    rows = sorted(examples, key=lambda example: example.id.encode())
    for example in rows:
        _check(example)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    whole = all(example.start == 0.0 and example.duration is None for example in rows)
    if whole:
        scp = [(example.id, str(example.audio)) for example in rows]
    else:
        names = _recordings(rows)
        scp = sorted(((n, p) for p, n in names.items()), key=lambda pair: pair[0].encode())
        _write(directory / "segments", [(e.id, _span(e, names[str(e.audio)])) for e in rows])
    _write(directory / "wav.scp", scp)
    _write(directory / "utt2spk", [(e.id, e.speaker or e.id) for e in rows])
    languages = {example.tgt_lang for example in rows if example.tgt_text is not None}
    if len(languages) > 1:
        found = ", ".join(sorted(map(str, languages)))
        raise StkError(f"several target languages: {found}", mend="write one directory each")
    target = f"text.{next(iter(languages), None) or 'tgt'}"
    for name, key in (("text", "src_text"), ("utt2lang", "src_lang"), (target, "tgt_text")):
        values = [(e.id, value) for e in rows if (value := getattr(e, key)) is not None]
        if values:
            _write(directory / name, values)
    return len(rows)


def _check(example: Example) -> None:
    where = {"file": example.file, "row": example.row}
    if example.audio is None:
        raise StkError(f"example {example.id!r} lacks audio", **where)  # type: ignore[arg-type]
    for value in (example.id, example.speaker):
        if value is not None and len(value.split()) != 1:
            raise StkError(f"whitespace in {value!r}", mend="rename it", **where)  # type: ignore[arg-type]


def _recordings(rows: list[Example]) -> dict[str, str]:
    """A name for every file: its stem where stems differ, numbered where they do not."""
    paths = sorted({str(example.audio) for example in rows})
    stems = ["_".join(Path(path).stem.split()) for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{stem}-{number:06d}" for number, stem in enumerate(stems)]
    return dict(zip(paths, stems, strict=True))


def _span(example: Example, recording: str) -> str:
    assert example.audio is not None
    end = (
        audio_duration(example.audio)
        if example.duration is None
        else example.start + example.duration
    )
    return f"{recording} {example.start:.6f} {end:.6f}"


def _write(path: Path, pairs: list[tuple[str, str]]) -> None:
    write_text(path, "".join(f"{key} {' '.join(value.split())}\n" for key, value in pairs))
