"""The manifest: one JSON object a line, read strictly, kept compactly."""

from __future__ import annotations

import hashlib
import json
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from stk.data.atomic import replacing
from stk.data.example import FIELDS, Example
from stk.data.languages import check_language
from stk.errors import StkError

_NUMBERS = ("start", "duration")
_NON_EMPTY = ("id", "audio", "src_text", "tgt_text", "speaker", "doc")


class SkipList:
    """Rows left out under ``--skip-bad``: counted here, then written to a list.

    Args:
        path: where :meth:`write` puts the list; None keeps the count alone.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.errors: list[StkError] = []
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self.errors)

    def add(self, error: StkError) -> None:
        """Note one row that is left out, and why; the same error again changes nothing."""
        if str(error) not in self._seen:
            self._seen.add(str(error))
            self.errors.append(error)

    def write(self) -> None:
        """Write one line a skipped row (``file:row: what (mend)``), whole or not at all."""
        if self.path is not None:
            with replacing(self.path) as temporary:
                temporary.write_text("".join(f"{e}\n" for e in self.errors), encoding="utf-8")


def parse_row(line: bytes | str, *, file: Path, row: int, base: Path) -> Example:
    """Turn one line of a manifest into an :class:`Example`.

    Args:
        line: UTF-8 text of one JSON object.
        file: the manifest, for messages.
        row: its row, counted from 1.
        base: absolute directory against which a relative ``audio`` is resolved.

    Raises:
        StkError: not JSON or not an object, an unknown, repeated or missing key, a value of a
            wrong type, an empty text, a negative time, an unknown language.
    """
    try:
        data = _decode(line)
        _check_types(data)
        for key in ("src_lang", "tgt_lang"):
            if key in data:
                check_language(data[key])
    except StkError as error:
        raise StkError(error.what, file=file, row=row, mend=error.mend) from None
    if "audio" in data:
        data["audio"] = Path(os.path.normpath(os.path.join(base, data["audio"])))
    return Example(file=file, row=row, **data)


def _decode(line: bytes | str) -> dict[str, Any]:
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        data = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise StkError(f"not UTF-8: {error.reason}", mend="save the manifest as UTF-8") from None
    except json.JSONDecodeError as error:
        what = "an empty line" if not line.strip() else f"{error.msg} at character {error.pos + 1}"
        raise StkError(f"not JSON: {what}", mend="one JSON object a line, no blank lines") from None
    if not isinstance(data, dict):
        raise StkError(f"expected a JSON object, found {type(data).__name__}", mend='{"id": ...}')
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise StkError(f"key {twice!r} stands twice", mend="keep one of them")
    return data


def _no_constant(name: str) -> float:
    raise StkError(f"{name} is not a number a manifest may hold", mend="leave the key out")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _check_types(data: dict[str, Any]) -> None:
    for key, value in data.items():
        if key not in FIELDS:
            raise StkError(f"unknown key {key!r}", mend=f"known keys: {', '.join(FIELDS)}")
        if key in _NUMBERS:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise StkError(f"{key} must be a number of seconds, found {value!r}")
            if not math.isfinite(value) or value < 0 or (key == "duration" and value == 0):
                raise StkError(f"{key} is {value}", mend="seconds, start >= 0 and duration > 0")
            data[key] = float(value)
            continue
        if not isinstance(value, str):
            raise StkError(f"{key} must be text, found {value!r}", mend="or leave the key out")
        if key in _NON_EMPTY and not value.strip():
            raise StkError(f"{key} is empty", mend="fill it in, leave the key out or drop the row")
    if "id" not in data:
        raise StkError("missing key 'id'", mend="every row needs an id of its own")
    if "audio" not in data and ("start" in data or "duration" in data):
        raise StkError("start or duration without audio", mend="add audio or drop both")


class _Rows:
    """Positions of a manifest's good rows, as plain arrays (20 bytes a row), and its digest."""

    def __init__(self) -> None:
        self.offsets, self.sizes, self.numbers = array("q"), array("q"), array("i")
        self.content = hashlib.blake2b(digest_size=16)


def _scan(
    path: Path, skip_bad: SkipList | None, keep: Callable[[Example], object] = lambda _: None
) -> _Rows:
    """Read every row once; hand each good one to ``keep`` and note where it stands."""
    base = path.resolve().parent
    rows = _Rows()
    first: dict[int, int] = {}  # hash of an id -> index of the row that has it
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            rows.content.update(line)
            try:
                example = parse_row(line.rstrip(b"\r\n"), file=path, row=number, base=base)
                before = first.get(hash(example.id))
                if before is not None:
                    at = rows.offsets[before], rows.sizes[before]
                    with path.open("rb") as again:
                        again.seek(at[0])
                        if json.loads(again.read(at[1]))["id"] == example.id:
                            raise StkError(
                                f"id {example.id!r} stands already in row {rows.numbers[before]}",
                                file=path,
                                row=number,
                                mend="ids must differ within a manifest",
                            )
            except StkError as error:
                if skip_bad is None:
                    raise
                skip_bad.add(error)
            else:
                first[hash(example.id)] = len(rows.offsets)
                rows.offsets.append(offset)
                rows.sizes.append(len(line))
                rows.numbers.append(number)
                keep(example)
            offset += len(line)
    if not rows.offsets:
        raise StkError("holds no usable row", file=path, mend="write one JSON object a line")
    return rows


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise StkError("no such manifest", file=path, mend="check the path")
    return path


class Manifest(Sequence[Example]):
    """A manifest as a sequence of examples that are parsed when asked for.

    Opening it reads and checks every row once and keeps 20 bytes for each, whatever its texts'
    length, so that a million rows cost megabytes and worker processes share them.

    Args:
        path: a JSONL file.
        skip_bad: collects bad rows instead of raising.

    Attributes:
        digest: hexadecimal, of all bytes of the file as it was opened.

    Raises:
        StkError: see :func:`parse_row`; also a repeated id, a missing or empty file.
    """

    def __init__(self, path: str | Path, *, skip_bad: SkipList | None = None) -> None:
        self.path = _existing(path)
        self._base = self.path.resolve().parent
        rows = _scan(self.path, skip_bad)
        self.digest = rows.content.hexdigest()
        self._offsets = np.frombuffer(rows.offsets, dtype=np.int64)
        self._sizes = np.frombuffer(rows.sizes, dtype=np.int64)
        self._numbers = np.frombuffer(rows.numbers, dtype=np.int32)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        self._stamp = self._stat()

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        # pread has no file position, so forked workers may share the descriptor
        line = os.pread(self._descriptor, int(self._sizes[index]), int(self._offsets[index]))
        number = int(self._numbers[index])
        return parse_row(line.rstrip(b"\r\n"), file=self.path, row=number, base=self._base)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_descriptor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        if self._stat() != self._stamp:
            raise StkError("changed while it was in use", file=self.path, mend="start again")

    def __del__(self) -> None:
        if "_descriptor" in self.__dict__:
            os.close(self._descriptor)


def read_manifest(path: str | Path, *, skip_bad: SkipList | None = None) -> list[Example]:
    """Read a whole manifest into a list (see :class:`Manifest` for big ones).

    Args:
        path: a JSONL file; relative ``audio`` paths are resolved against its directory.
        skip_bad: collects bad rows instead of raising.

    Raises:
        StkError: see :class:`Manifest`.
    """
    examples: list[Example] = []
    _scan(_existing(path), skip_bad, examples.append)
    return examples


def row_of(example: Example, base: Path | None = None) -> str:
    """The JSON line of an example, without a line end.

    Args:
        example: ``file`` and ``row`` are left out, and ``start`` where it is 0.
        base: absolute directory of the manifest; audio inside it is written relative to it.
    """
    data: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(example, name)
        if value is None or (name == "start" and value == 0.0):
            continue
        if name == "audio":
            absolute = Path(os.path.abspath(value))
            inside = base is not None and absolute.is_relative_to(base)
            value = str(absolute.relative_to(base)) if inside and base else str(absolute)
        data[name] = value
    return json.dumps(data, ensure_ascii=False)


def write_manifest(path: str | Path, examples: Iterable[Example]) -> int:
    """Write a manifest, whole or not at all, and return its number of rows.

    Args:
        path: the file; audio below its directory is named relative to it, other audio in full.
        examples: rows in order; consumed once, so a generator of any length will do.

    Raises:
        StkError: a repeated id.
    """
    path = Path(path)
    base = Path(os.path.abspath(path)).parent
    seen: set[str] = set()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for example in examples:
            if example.id in seen:
                raise StkError(f"id {example.id!r} would stand twice", file=path)
            seen.add(example.id)
            stream.write(row_of(example, base) + "\n")
    return len(seen)
