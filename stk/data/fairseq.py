"""fairseq S2T manifests in and out (Wang et al., 2020): TSV without quoting.

Columns ``id``, ``audio``, ``n_frames``, ``tgt_text``, and optionally ``speaker``, ``src_text``,
``src_lang``, ``tgt_lang``. ``audio`` is a path, ``path:offset:length`` in samples, or
``archive.zip:offset:length`` in bytes of a stored (uncompressed) member.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stk.data.atomic import replacing, write_bytes
from stk.data.audio import audio_info
from stk.data.example import Example
from stk.data.languages import check_language
from stk.errors import StkError

COLUMNS = ("id", "audio", "n_frames", "tgt_text", "speaker", "src_text", "src_lang", "tgt_lang")
Target = Literal["tgt_text", "src_text"]
_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg"}


@dataclass(frozen=True, kw_only=True)
class FairseqOptions:
    """How a TSV is read or written.

    Attributes:
        audio_root: directory against which ``audio`` is relative.
        target: field that the column ``tgt_text`` means; ``src_text`` for recognition data.
        src_lang: source language where there is no such column.
        tgt_lang: target language where there is no such column.
        extract: directory for sound taken out of zip archives.
    """

    audio_root: Path = Path()
    target: Target = "tgt_text"
    src_lang: str | None = None
    tgt_lang: str | None = None
    extract: Path | None = None


def read_fairseq(path: str | Path, options: FairseqOptions) -> list[Example]:
    """Read a TSV; every error names its row (the header is row 1).

    Raises:
        StkError: a missing or unknown column, a missing value, features (``.npy``) instead of
            sound, a zip archive without ``extract``, a broken sound file.
    """
    path = Path(path)
    if not path.is_file():
        raise StkError("no such TSV file", file=path)
    examples, seen = [], set()
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = reader.fieldnames or []
        for name in ("id", "audio", "tgt_text"):
            if name not in header:
                raise StkError(f"no column {name!r}", file=path, row=1, mend="is it an S2T TSV?")
        for row, values in enumerate(reader, start=2):
            try:
                if None in values or None in values.values():
                    raise StkError(f"not {len(header)} columns", mend="no tabs within texts")
                example = _example(values, options)
                if example.id in seen:
                    raise StkError(f"id {example.id!r} stands twice")
            except StkError as error:
                what = f"{error.file}: {error.what}" if error.file else error.what
                raise StkError(what, file=path, row=row, mend=error.mend) from None
            seen.add(example.id)
            examples.append(example)
    return examples


def _example(values: dict[str, str], options: FairseqOptions) -> Example:
    texts = {key: values[key] for key in ("src_text", "speaker") if values.get(key)}
    if not values["tgt_text"].strip():
        raise StkError("tgt_text is empty", mend="fill it in or drop the row")
    texts[options.target] = values["tgt_text"]
    for key, given in (("src_lang", options.src_lang), ("tgt_lang", options.tgt_lang)):
        language = values.get(key) or given
        if language and (key == "src_lang" or "tgt_text" in texts):
            texts[key] = check_language(language)
    audio, start, duration = _sound(values["id"], values["audio"], options)
    return Example(id=values["id"], audio=audio, start=start, duration=duration, **texts)  # type: ignore[arg-type]


def _sound(name: str, audio: str, options: FairseqOptions) -> tuple[Path, float, float | None]:
    parts = audio.rsplit(":", 2)
    sliced = len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit()
    path = Path(os.path.abspath(options.audio_root / (parts[0] if sliced else audio)))
    if path.suffix == ".npy":
        raise StkError("holds features, not sound", file=path, mend="give the sound files")
    if path.suffix == ".zip":
        if not sliced:
            raise StkError("a zip archive needs path:offset:length", file=path)
        return _extract(name, path, int(parts[1]), int(parts[2]), options.extract), 0.0, None
    if not sliced:
        return path, 0.0, None
    rate = audio_info(path).rate
    return path, int(parts[1]) / rate, int(parts[2]) / rate


def _extract(name: str, archive: Path, offset: int, length: int, extract: Path | None) -> Path:
    if extract is None:
        raise StkError("sound within a zip archive", file=archive, mend="say where: --extract DIR")
    if not archive.is_file():
        raise StkError("no such archive", file=archive)
    with archive.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    suffix = _MAGIC.get(data[:4])
    if len(data) < length or suffix is None:
        what = "features" if data[:6] == b"\x93NUMPY" else "no FLAC, WAV or OGG file"
        raise StkError(f"bytes {offset} to {offset + length} are {what}", file=archive)
    target = Path(os.path.abspath(extract)) / f"{name.replace(os.sep, '_')}{suffix}"
    write_bytes(target, data)
    return target


def write_fairseq(path: str | Path, examples: Iterable[Example], options: FairseqOptions) -> int:
    """Write a TSV, whole or not at all, and return its number of rows.

    ``n_frames`` holds samples, as fairseq has it for sound. Paths are absolute, or relative to
    ``audio_root`` if they lie below it and it was given.

    Raises:
        StkError: an example without sound or target text, a tab or line end in a text.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("\t".join(COLUMNS) + "\n")
        for example in examples:
            stream.write("\t".join(_columns(example, options)) + "\n")
            count += 1
    return count


def _columns(example: Example, options: FairseqOptions) -> list[str]:
    target = getattr(example, options.target)
    if example.audio is None or target is None:
        raise StkError(
            f"example {example.id!r} lacks {'audio' if example.audio is None else options.target}",
            file=example.file,
            row=example.row,
            mend="fairseq needs both; --target src_text for transcripts",
        )
    info = audio_info(example.audio)
    audio, frames = str(example.audio), info.frames
    root = os.path.abspath(options.audio_root)
    if options.audio_root != Path() and example.audio.is_relative_to(root):
        audio = str(example.audio.relative_to(root))
    if example.start or example.duration is not None:
        first = round(example.start * info.rate)
        frames = info.frames - first
        if example.duration is not None:
            frames = min(frames, round(example.duration * info.rate))
        audio = f"{audio}:{first}:{frames}"
    texts = [example.speaker, example.src_text, example.src_lang, example.tgt_lang]
    columns = [example.id, audio, str(frames), target, *(text or "" for text in texts)]
    for value in columns:
        if any(c in value for c in "\t\n\r"):
            raise StkError(f"a tab or line end in {value!r}", file=example.file, row=example.row)
    return columns
