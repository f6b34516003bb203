"""The Example: one row of a manifest, the same format for every resource."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One manifest row; which fields are present decides which objectives may use it.

    Attributes:
        id: unique within a manifest.
        audio: path of a sound file, absolute once read.
        start: seconds into the file where the segment begins (0.0: the file's start).
        duration: seconds of the segment; None until measured (then: to the file's end).
        src_text: transcript, or source sentence of a text pair.
        src_lang: ISO 639 code of what is spoken or of ``src_text``.
        tgt_text: translation.
        tgt_lang: ISO 639 code of ``tgt_text``.
        speaker: any name.
        doc: name of the document or talk; rows of one document stand in reading order.
        file: the manifest, for messages.
        row: its row, counted from 1, for messages.
    """

    id: str
    audio: Path | None = None
    start: float = 0.0
    duration: float | None = None
    src_text: str | None = None
    src_lang: str | None = None
    tgt_text: str | None = None
    tgt_lang: str | None = None
    speaker: str | None = None
    doc: str | None = None
    file: Path | None = None
    row: int | None = None

    @property
    def present(self) -> frozenset[str]:
        """Names of the manifest fields this row has."""
        return frozenset(name for name in FIELDS if getattr(self, name) is not None)


FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Example) if f.name not in ("file", "row"))
"""Every key a manifest row may have, in the order in which rows are written."""
