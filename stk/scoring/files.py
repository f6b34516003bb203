"""Reading what is scored: plain lines, decoding output, manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stk.data.example import Example
from stk.data.lines import read_lines
from stk.data.manifest import read_manifest
from stk.errors import StkError

TextField = Literal["src_text", "tgt_text"]


@dataclass(frozen=True)
class References:
    """References in order, with their manifest rows where they came from a manifest.

    Attributes:
        texts: one a sentence.
        rows: the manifest's rows; None for plain lines.
        file: where they were read.
    """

    texts: list[str]
    rows: list[Example] | None
    file: Path


@dataclass(frozen=True)
class Outputs:
    """A system's outputs in order; ``ids`` where they came as decoding output."""

    texts: list[str]
    ids: list[str] | None
    file: Path


def read_references(path: str | Path, field: TextField = "tgt_text") -> References:
    """Read references: a manifest (``.jsonl``) or plain lines.

    Raises:
        StkError: no such file, a bad row, a row without ``field``.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        return References(read_lines(path), None, path)
    rows = read_manifest(path)
    texts = []
    for example in rows:
        text = getattr(example, field)
        if text is None:
            what = f"example {example.id!r} has no {field}"
            raise StkError(what, file=path, row=example.row, mend="--field names another")
        texts.append(text)
    return References(texts, rows, path)


def read_outputs(path: str | Path, field: TextField = "tgt_text") -> Outputs:
    """Read a system's outputs: what ``stk-decode --output`` wrote (``.jsonl``), or plain lines.

    With ``field="src_text"`` a row's ``transcript`` is taken where it has one, else its ``text``.

    Raises:
        StkError: no such file, or a row that is no decoding output.
    """
    path = Path(path)
    lines = read_lines(path)
    if path.suffix != ".jsonl":
        return Outputs(lines, None, path)
    texts, ids = [], []
    for row, line in enumerate(lines, start=1):
        data = _object(line, path, row)
        if not isinstance(data.get("id"), str) or not isinstance(data.get("text"), str):
            raise StkError("no decoding output: needs id and text", file=path, row=row)
        heard = data.get("transcript") if field == "src_text" else None
        texts.append(heard if isinstance(heard, str) else data["text"])
        ids.append(data["id"])
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise StkError(f"id {twice!r} stands twice", file=path, mend="keep one of them")
    return Outputs(texts, ids, path)


def align(outputs: Outputs, references: References) -> list[str]:
    """Outputs in the order of the references: by id where both have ids, else by position.

    Raises:
        StkError: an id without counterpart, or numbers of lines that differ.
    """
    if outputs.ids is None or references.rows is None:
        if len(outputs.texts) != len(references.texts):
            raise StkError(
                f"{len(outputs.texts)} outputs for {len(references.texts)} references",
                file=outputs.file,
                mend=f"{references.file} must have the same sentences in the same order",
            )
        return outputs.texts
    texts = dict(zip(outputs.ids, outputs.texts, strict=True))
    wanted = [example.id for example in references.rows]
    _same_ids(outputs.file, sorted(set(wanted) - set(texts)), "are missing")
    _same_ids(outputs.file, sorted(set(texts) - set(wanted)), f"are not in {references.file}")
    return [texts[name] for name in wanted]


def _object(line: str, path: Path, row: int) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise StkError(f"not JSON: {error.msg}", file=path, row=row) from None
    if not isinstance(data, dict):
        raise StkError("expected a JSON object", file=path, row=row)
    return data


def _same_ids(file: Path, names: Sequence[str], what: str) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise StkError(
            f"{len(names)} ids {what}: {shown}", file=file, mend="decode the same manifest"
        )
