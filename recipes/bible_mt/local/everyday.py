"""Everyday sentences from the German-English dictionary of TU Chemnitz (Debian's trans-de-en)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stk.data.example import Example
from stk.errors import StkError

DICTIONARY = Path("usr/share/trans/de-en")
_ASIDE = re.compile(r"\[[^\]]*\]|\{[^}]*\}|/[^/ ]*/|\([^)]*\)|<[^>]*>")
_END = (".", "!", "?")


def read_everyday(package: Path) -> Iterator[Example]:
    """Sentences in English and German: examples of entries that end as sentences on both sides.

    An entry has as many examples on either side, cut by bars; where an example has several
    wordings the first is taken. Remarks in brackets go; what offers alternatives with a slash or
    abbreviates (``jdn.``, ``sb.``) is no sentence.

    Args:
        package: where the Debian packages were unpacked.

    Raises:
        StkError: no dictionary there.
    """
    file = package / DICTIONARY
    if not file.is_file():
        raise StkError("no dictionary there", file=file, mend="run the stage fetch")
    for row, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#") or " :: " not in line:
            continue
        german, english = (side.split(" | ") for side in line.split(" :: ", 1))
        if len(german) != len(english):
            continue
        for place, sides in enumerate(zip(english, german, strict=True)):
            texts = [_sentence(side) for side in sides]
            if all(texts):
                yield Example(
                    id=f"everyday-{row}-{place}",
                    src_text=texts[0],
                    src_lang="en",
                    tgt_text=texts[1],
                    tgt_lang="de",
                )


def _sentence(text: str) -> str:
    """The first wording of an example, without remarks; empty where it is no sentence."""
    first = re.split(r"(?<=[.!?])\s*;", text)[0]
    first = " ".join(_ASIDE.sub(" ", first).split())
    whole = first.endswith(_END) and first[:1].isupper() and "/" not in first and ";" not in first
    return first if whole and len(first.split()) >= 3 and not _abbreviates(first) else ""


def _abbreviates(text: str) -> bool:
    return re.search(r"\b(jd[snm]?|etw|sb|sth|oneself)\b\.?", text) is not None
