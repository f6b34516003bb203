"""Reading MuST-C: a YAML file of segments beside a file of lines for each language.

A YAML file has one segment a line, ``- {duration: 3.5, offset: 16.08, speaker_id: spk.1, wav:
ted_1.wav}`` (release 1 has counts of words in it too). Such lines are read by a pattern, many times
faster than by a YAML parser; whatever does not fit the pattern goes to the parser.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from faults import Faults

from stk.errors import StkError

_LINE = re.compile(r"- \{([^'\"\[\]{}#&*!|>%@`\\]*)\}\s*")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment.

    Attributes:
        line: where it begins in the YAML file, counted from 1.
        wav: name of the sound file.
        offset: seconds into it.
        duration: seconds.
        speaker: name, or None.
    """

    line: int
    wav: str
    offset: float
    duration: float
    speaker: str | None


def read_lines(path: Path, faults: Faults) -> list[str]:
    r"""The lines of a text file; only ``\n`` ends one, since sentences may hold U+2028 and such.

    A Windows line end is noted and taken away.

    Raises:
        StkError: the file is missing or not UTF-8.
    """
    if not path.is_file():
        raise StkError("no such file", file=path, mend="--data names the corpus as it is unpacked")
    pieces = path.read_bytes().split(b"\n")
    if pieces[-1] == b"":
        pieces.pop()
    lines = []
    for number, piece in enumerate(pieces, 1):
        if piece.endswith(b"\r"):
            faults.add(
                path, number, "Windows line end", "the carriage return is dropped", kept=True
            )
        try:
            lines.append(piece.decode("utf-8").rstrip("\r"))
        except UnicodeDecodeError as error:
            raise StkError(f"not UTF-8: {error.reason}", file=path, row=number) from None
    return lines


def read_segments(path: Path, faults: Faults) -> list[Segment | None]:
    """Every segment in order; None where one cannot be used, which is noted.

    Raises:
        StkError: the file is missing, or not a list of segments.
    """
    return [
        _checked(path, line, fields, faults)
        for line, fields in _entries(path, read_lines(path, faults))
    ]


def _entries(path: Path, lines: list[str]) -> Iterator[tuple[int, Any]]:
    """Line number and fields of each entry, which may run over several lines."""
    chunk: list[str] = []
    begun = 1
    for number, line in enumerate([*lines, "- "], 1):
        if not line.startswith("- ") and line != "-":
            chunk.append(line)
            continue
        if any(part.strip() not in ("", "---") for part in chunk):
            yield begun, _parsed(path, begun, chunk)
        chunk, begun = [line], number


def _parsed(path: Path, line: int, chunk: list[str]) -> Any:
    match = _LINE.fullmatch(chunk[0]) if len(chunk) == 1 else None
    if match is not None:
        pairs = [part.split(": ", 1) for part in match[1].split(", ")]
        if all(len(pair) == 2 for pair in pairs):
            return {key.strip(): value.strip() for key, value in pairs}
    try:
        entry = yaml.load("\n".join(chunk), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise StkError(f"not valid YAML: {error}", file=path, row=line) from None
    if not isinstance(entry, list) or len(entry) != 1:
        raise StkError("expected a list of segments", file=path, row=line)
    return entry[0]


def _checked(path: Path, line: int, fields: Any, faults: Faults) -> Segment | None:
    try:
        wav, speaker = str(fields["wav"]), fields.get("speaker_id")
        offset, duration = float(fields["offset"]), float(fields["duration"])
    except (KeyError, TypeError, ValueError, AttributeError):
        faults.add(path, line, "malformed segment", "wav, offset and duration are needed")
        return None
    if not (math.isfinite(offset + duration) and offset >= 0 and duration > 0 and wav):
        faults.add(path, line, "malformed segment", f"offset {offset}, duration {duration}")
        return None
    return Segment(line, wav, offset, duration, None if speaker is None else str(speaker))
