"""Parallel text in two files, one sentence a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stk.data.example import Example
from stk.data.languages import check_language
from stk.data.lines import read_lines
from stk.errors import StkError


def read_parallel(
    source: str | Path, target: str | Path, src_lang: str, tgt_lang: str, *, name: str | None = None
) -> Iterator[Example]:
    """Examples of two files of equally many lines; line i of one translates line i of the other.

    Lines that are empty on both sides are left out.

    Args:
        source: UTF-8 text.
        target: UTF-8 text.
        src_lang: ISO 639 code of ``source``.
        tgt_lang: ISO 639 code of ``target``.
        name: beginning of the examples' ids; None: the source file's name.

    Raises:
        StkError: files of unequal length, a line empty on one side alone, no line at all, not
            UTF-8, an unknown language.
    """
    source, target = Path(source), Path(target)
    for code in (src_lang, tgt_lang):
        check_language(code)
    lines, others = read_lines(source), read_lines(target)
    if len(lines) != len(others):
        raise StkError(
            f"{len(lines)} lines, but {target} has {len(others)}",
            file=source,
            mend="line i of one file must translate line i of the other",
        )
    if not any(line.strip() for line in lines):
        raise StkError("no text", file=source)
    prefix = source.stem if name is None else name
    for row, (line, other) in enumerate(zip(lines, others, strict=True), 1):
        here, there = line.strip(), other.strip()
        if not here and not there:
            continue
        if not here or not there:
            empty, full = (source, target) if not here else (target, source)
            raise StkError(
                f"the line is empty, but not in {full}",
                file=empty,
                row=row,
                mend="remove the line from both files",
            )
        yield Example(
            id=f"{prefix}-{row}",
            src_text=here,
            src_lang=src_lang,
            tgt_text=there,
            tgt_lang=tgt_lang,
            file=source,
            row=row,
        )
