"""Reading dictionaries in dictd format, as FreeDict ships them."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from stk.errors import StkError

_DIGITS = {
    c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_SOUND = re.compile(r"/[^/]*/")
_ASIDE = re.compile(r"<[^>]*>|\([^)]*\)|\[[^\]]*\]|/[^/]*/")
_NUMBER = re.compile(r"^\d+\.\s*")
_NOTE = re.compile(r'^(["\u201c]|see\b|synonym|antonym|note\b|cf\b|\w[\w ]*:)', re.IGNORECASE)


def dictd_pairs(index: Path) -> Iterator[tuple[str, str]]:
    """``(headword, translation)`` pairs of a dictionary, in the order of its index.

    FreeDict cuts headwords of several words to the first one and keeps their pronunciation, so of
    entries under one headword only those with the shortest pronunciation are read. Of an entry the
    lines below its headword are read: numbers, remarks in brackets, examples and references are
    dropped, what is left is cut at commas and semicolons.

    Args:
        index: the ``.index`` file; ``.dict.dz`` or ``.dict`` stands beside it.

    Raises:
        StkError: no dictionary beside the index, damaged files, a line that is not an entry.
    """
    content = _content(index)
    entries: dict[str, list[tuple[str, list[str]]]] = {}
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise StkError("not UTF-8", file=index) from None
    for row, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) < 3:
            raise StkError("no index entry", file=index, row=row, mend="word, offset, length")
        begin, size = (_number(digits, index, row) for digits in columns[1:3])
        if columns[0].startswith(("00-database", "00database")):
            continue
        if begin + size > len(content):
            raise StkError("points beyond the dictionary", file=index, row=row)
        head, *body = content[begin : begin + size].decode("utf-8", "replace").splitlines() or [""]
        sound = _SOUND.search(head)
        entries.setdefault(columns[0], []).append((sound[0] if sound else "", body))
    for word, found in entries.items():
        shortest = min(len(spoken) for spoken, _ in found)
        for spoken, body in found:
            for text in body if len(spoken) == shortest else ():
                for translation in _translations(text):
                    yield word, translation


def _translations(line: str) -> list[str]:
    line = _NUMBER.sub("", line.strip())
    if not line or _NOTE.match(line):
        return []
    parts = re.split(r"[,;]", _ASIDE.sub(" ", line))
    return [text for part in parts if (text := " ".join(part.split()))]


def _number(digits: str, file: Path, row: int) -> int:
    """A number in dictd's base 64, most significant digit first."""
    value = 0
    for digit in digits:
        if digit not in _DIGITS:
            raise StkError(f"{digits!r} is no number in base 64", file=file, row=row)
        value = value * 64 + _DIGITS[digit]
    return value


def _content(index: Path) -> bytes:
    stem = index.with_suffix("")
    packed, plain = Path(f"{stem}.dict.dz"), Path(f"{stem}.dict")
    if packed.is_file():
        try:
            return gzip.decompress(packed.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise StkError(f"not a dictionary: {error}", file=packed) from None
    if plain.is_file():
        return plain.read_bytes()
    raise StkError("there is no .dict.dz beside it", file=index)
