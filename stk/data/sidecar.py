"""Sidecars: tensors computed once per row (teacher outputs, features, alignments), keyed by id.

A sidecar is a directory: ``meta.json`` (what made it, fields, dtypes), ``keys.npy`` (sorted
64-bit hashes of the ids), ``order.npy`` (their row numbers), and for each field ``NAME.bin`` (all
rows' values, one after another) with ``NAME.offsets.npy``. Values are mapped, not read, so size
does not matter and worker processes share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from stk.errors import StkError

_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def made_by(**parts: object) -> str:
    """A hash of what makes a sidecar: digests of checkpoints and vocabularies, settings.

    Args:
        parts: JSON values by name; the order of names does not matter.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _key(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=8).digest(), "little")


class SidecarWriter:
    """Writes a sidecar row by row, whole or not at all; use it in a ``with`` block.

    Args:
        path: directory to make (or to replace, once all is written).
        made_by: hash of what makes it, see :func:`made_by`.
        parts: JSON values by name that readers compare one by one, see :meth:`Sidecar.expect`.
    """

    def __init__(
        self, path: str | Path, made_by: str, parts: Mapping[str, object] | None = None
    ) -> None:
        self.path = Path(path)
        self._made_by, self._parts = made_by, dict(parts or {})
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._keys: dict[int, str] = {}
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._offsets: dict[str, array[int]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        return self

    def add(self, identifier: str, tensors: Mapping[str, Tensor]) -> None:
        """Append one row.

        Args:
            identifier: the example's id.
            tensors: ``(n, ...)`` by name; every row has the same names, dtypes and tails. bfloat16
                and float64 are to be converted first.

        Raises:
            StkError: a repeated id; names, dtypes or tails that differ from the first row's.
        """
        key = _key(identifier)
        if key in self._keys:
            same = self._keys[key] == identifier
            what = "stands twice" if same else f"collides with {self._keys[key]!r}"
            raise StkError(f"id {identifier!r} {what}", file=self.path)
        kinds = {name: _kind(name, tensor, self.path) for name, tensor in tensors.items()}
        if not self._keys:
            self._start(kinds)
        if kinds != self._kinds:
            raise StkError(
                f"id {identifier!r} has fields {kinds}, the rows before {self._kinds}",
                file=self.path,
            )
        self._keys[key] = identifier
        for name, tensor in tensors.items():
            self._files[name].write(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._offsets[name].append(self._offsets[name][-1] + len(tensor))

    def _start(self, kinds: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        self._kinds = kinds
        for name in kinds:
            self._files[name] = (self._part / f"{name}.bin").open("wb")
            self._offsets[name] = array("q", [0])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for file in self._files.values():
                file.close()
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def _finish(self) -> None:
        keys = np.array(list(self._keys), dtype=np.uint64)
        order = np.argsort(keys)
        np.save(self._part / "keys.npy", keys[order])
        np.save(self._part / "order.npy", order)
        for name, offsets in self._offsets.items():
            np.save(self._part / f"{name}.offsets.npy", np.frombuffer(offsets, dtype=np.int64))
        fields = {n: {"dtype": d, "tail": list(t)} for n, (d, t) in self._kinds.items()}
        meta: dict[str, object] = {"made_by": self._made_by, "parts": self._parts}
        meta |= {"rows": len(keys), "fields": fields}
        (self._part / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        if self.path.exists():
            old = self.path.with_name(f".{self.path.name}.{os.getpid()}.old")
            os.rename(self.path, old)
            os.rename(self._part, self.path)
            shutil.rmtree(old)
        else:
            os.rename(self._part, self.path)


def _kind(name: str, tensor: Tensor, file: Path) -> tuple[str, tuple[int, ...]]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in _DTYPES or tensor.dim() == 0 or not name.isidentifier():
        raise StkError(
            f"field {name!r}: a {tensor.dim()}-dimensional {dtype} tensor cannot be stored",
            file=file,
            mend=f"names are identifiers, at least one dimension, dtypes {', '.join(_DTYPES)}",
        )
    return dtype, tuple(tensor.shape[1:])


class Sidecar:
    """Read access to a sidecar by example id; picklable, values are read when asked for.

    Args:
        path: directory that :class:`SidecarWriter` made.
        expect: hash that must have made it; None checks nothing yet (see :meth:`check`).

    Raises:
        StkError: missing or incomplete directory, or another hash.
    """

    def __init__(self, path: str | Path, expect: str | None = None) -> None:
        self.path = Path(path)
        self._open()
        if expect is not None:
            self.check(expect)

    def _open(self) -> None:
        try:
            meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
            self.made_by: str = meta["made_by"]
            self.parts: dict[str, Any] = meta.get("parts", {})
            self._fields: dict[str, dict[str, Any]] = meta["fields"]
            self._keys = np.load(self.path / "keys.npy", mmap_mode="r")
            self._order = np.load(self.path / "order.npy", mmap_mode="r")
            self._offsets = {
                name: np.load(self.path / f"{name}.offsets.npy", mmap_mode="r")
                for name in self._fields
            }
            self._values = {name: self._map(name) for name in self._fields}
        except (OSError, ValueError, KeyError) as error:
            raise StkError(
                f"not a complete sidecar: {error}", file=self.path, mend="make it again"
            ) from None

    def _map(self, name: str) -> np.ndarray:
        kind = self._fields[name]
        shape = (int(self._offsets[name][-1]), *kind["tail"])
        if 0 in shape:  # an empty file cannot be mapped
            return np.empty(shape, dtype=kind["dtype"])
        return np.memmap(self.path / f"{name}.bin", dtype=kind["dtype"], mode="r", shape=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "made_by": self.made_by}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()
        self.check(state["made_by"])

    def check(self, expect: str) -> None:
        """Raise StkError unless ``expect`` is the hash of what made this sidecar."""
        if self.made_by != expect:
            raise StkError(
                f"was made by {self.made_by[:12]}, not by {expect[:12]}",
                file=self.path,
                mend="make the sidecar again with the present models and vocabularies",
            )

    def expect(self, **parts: object) -> None:
        """Raise StkError unless each of ``parts`` is what the sidecar was made with."""
        for name, wanted in parts.items():
            found = self.parts.get(name)
            if found != wanted:
                raise StkError(
                    f"was made with {name} {str(found)[:24]}, not {str(wanted)[:24]}",
                    file=self.path,
                    mend="make the sidecar again with the present models and vocabularies",
                )

    def tail(self, field: str) -> tuple[int, ...]:
        """Shape of one element of a field.

        Raises:
            StkError: there is no such field.
        """
        if field not in self._fields:
            known = ", ".join(self._fields) or "none"
            raise StkError(f"has no field {field!r}", file=self.path, mend=f"it has {known}")
        return tuple(self._fields[field]["tail"])

    def __len__(self) -> int:
        return len(self._keys)

    def _row(self, identifier: str) -> int | None:
        key = np.uint64(_key(identifier))
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        return int(self._order[place])

    def __contains__(self, identifier: str) -> bool:
        return self._row(identifier) is not None

    def __getitem__(self, identifier: str) -> dict[str, Tensor]:
        """Copies of the row's tensors ``(n, ...)`` by name.

        Raises:
            StkError: no row of that id.
        """
        row = self._row(identifier)
        if row is None:
            raise StkError(f"has no row {identifier!r}", file=self.path, mend="make it again")
        found = {}
        for name, values in self._values.items():
            begin, end = int(self._offsets[name][row]), int(self._offsets[name][row + 1])
            found[name] = torch.from_numpy(np.array(values[begin:end]))
        return found
