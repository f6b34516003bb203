"""Parallel text of another kind: LibreOffice's catalogues in the eight languages, with English.

Short messages alone, since the recordings are short, and none whose letters the recordings' texts
lack. What development or test speak, or is its translation, is left out, case and punctuation
aside.
"""

from __future__ import annotations

import argparse
import gettext
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import debs
from stamps import LANGUAGES, normalise

from stk.cli.common import run
from stk.data.example import Example
from stk.data.manifest import read_manifest, write_manifest
from stk.errors import StkError

CATALOGUES = Path("usr/lib/libreoffice/program/resource")
WORDS = (2, 12)
"""Least and most words of either side."""

_NO_TEXT = re.compile(r"[<>{}%$=_/\\|#@\[\]\d]|\.\.\.|://")
_MARKS = str.maketrans("", "", "~&")


def messages(root: Path, language: str) -> Iterator[tuple[str, str]]:
    """Pairs ``(message, its English)`` of a language's catalogues; repeated ones too.

    Raises:
        StkError: there are none.
    """
    files = sorted((root / CATALOGUES / language / "LC_MESSAGES").glob("*.mo"))
    if not files:
        raise StkError(f"no catalogue of {language!r}", file=root, mend="delete it and fetch again")
    for file in files:
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]
        for key, message in catalogue.items():
            if key and isinstance(key, str) and isinstance(message, str):  # no head, no plural
                yield message, key.rpartition("\x04")[2]


def tidy(text: str) -> str | None:
    """A message without marks of its menu, or None where it is more than words."""
    plain = " ".join(text.translate(_MARKS).split()).rstrip(":")
    if _NO_TEXT.search(plain) or not WORDS[0] <= len(plain.split()) <= WORDS[1]:
        return None
    return plain


def known(examples: Iterable[Example]) -> set[str]:
    """Normalised texts of both sides."""
    found = set()
    for example in examples:
        found |= {normalise(text) for text in (example.src_text, example.tgt_text) if text}
    return found


def pairs(root: Path, train: list[Example], taboo: set[str]) -> Iterator[Example]:
    """Distinct pairs of all languages; what is left out is counted on standard error.

    Args:
        root: the unpacked packages.
        train: whose letters are kept.
        taboo: normalised sentences that may stand on neither side.
    """
    left_out: Counter[str] = Counter()
    english = {letter for row in train for letter in (row.tgt_text or "").casefold()}
    for language in LANGUAGES:
        own = {c for row in train if row.src_lang == language for c in (row.src_text or "")}
        letters = {c.casefold() for c in own} | set(" .,!?'’«»-")
        seen: set[tuple[str, str]] = set()
        for message, original in messages(root, language):
            source, target = tidy(message), tidy(original)
            if source is None or target is None:
                left_out["not a short sentence"] += 1
                continue
            key = (normalise(source), normalise(target))
            if key in seen or key[0] == key[1]:
                left_out["a copy"] += 1
            elif taboo & set(key):
                left_out["spoken in development or test"] += 1
            elif not set(source.casefold()) <= letters or not set(target.casefold()) <= english:
                left_out["letters that the recordings lack"] += 1
            else:
                seen.add(key)
                yield Example(
                    id=f"{language}-{len(seen)}",
                    src_text=source,
                    src_lang=language,
                    tgt_text=target,
                    tgt_lang="en",
                )
    for why, count in sorted(left_out.items()):
        print(f"left out, {why}: {count}", file=sys.stderr)


def main(argv: list[str]) -> None:
    """Parse the options, fetch and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="where they are unpacked")
    parser.add_argument("--data", type=Path, required=True, help="train, dev and test manifests")
    parser.add_argument("--out", type=Path, required=True, help="manifest to write")
    options = parser.parse_args(argv)
    debs.unpack([f"libreoffice-l10n-{language}" for language in LANGUAGES], options.packages)
    train = read_manifest(options.data / "train.jsonl")
    taboo = known(
        row for name in ("dev", "test") for row in read_manifest(options.data / f"{name}.jsonl")
    )
    count = write_manifest(options.out, pairs(options.packages, train, taboo))
    print(f"{options.out}: {count} pairs", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
