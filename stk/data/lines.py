"""Plain text, one sentence a line."""

from __future__ import annotations

from pathlib import Path

from stk.errors import StkError


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, without their ends.

    Raises:
        StkError: not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StkError(f"not UTF-8: {error.reason}", file=path) from None
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines
