"""The Bible versions that are read, and their verses."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stk.data.cleaning import tidy
from stk.errors import StkError


@dataclass(frozen=True)
class Version:
    """One translation of the Bible.

    Attributes:
        key: its name in the database.
        language: ISO 639 code.
        name: for people.
    """

    key: str
    language: str
    name: str


VERSIONS = (
    Version("4", "en", "World English Bible"),
    Version("k", "en", "King James"),
    Version("3", "en", "Bible in Basic English, 1949"),
    Version("s", "de", "Schlachter, 1951"),
    Version("e", "de", "Elberfelder, 1932"),
    Version("l", "fr", "Louis Segond, 1910"),
    Version("5", "fr", "Darby"),
    Version("v", "es", "Reina-Valera, 1909"),
    Version("d", "it", "Diodati, 1649"),
    Version("r", "ru", "Russian Synodal, 1876"),
    Version("u", "ro", "Cornilescu, 1928"),
    Version("f", "tl", "Ang Dating Biblia, 1905"),
)
"""The package states a licence of its own alone, none of a version. Its Almeida (Corrigida Fiel,
1995) and Ostervald (1996) are late revisions, which nothing there says to be in the public domain:
neither is read. It has no other Portuguese version.

The first version of a language is the one that development and test sets are made of."""

_NUMBER = re.compile(r"\(\d+:\d+\)")
_ADDED = re.compile(r"[\[\]*#`+=>|]")
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201e": '"', "\u201c": '"', "\u201d": '"'})

Verse = tuple[int, int, int]
"""Book, chapter, verse."""


def read_verses(database: Path) -> dict[Version, dict[Verse, str]]:
    """Every version's verses: numbers of other countings and marks of added words taken out.

    Raises:
        StkError: no such database, or one that lacks a version (a language without data).
    """
    if not database.is_file():
        raise StkError("no such database", file=database, mend="run the stage fetch")
    found: dict[Version, dict[Verse, str]] = {}
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        for version in VERSIONS:
            rows = connection.execute(
                "SELECT bNumber, cNumber, vNumber, vText FROM bible WHERE bbName = ?",
                (version.key,),
            )
            verses = {(int(b), int(c), int(v)): clean(text) for b, c, v, text in rows}
            verses = {verse: text for verse, text in verses.items() if text}
            if not verses:
                raise StkError(
                    f"no verses of version {version.key!r} ({version.language})", file=database
                )
            found[version] = verses
    except sqlite3.DatabaseError as error:
        raise StkError(f"not the database expected: {error}", file=database) from None
    finally:
        connection.close()
    return found


def clean(text: str) -> str:
    """A verse as running text."""
    text = _ADDED.sub("", _NUMBER.sub(" ", text)).translate(_QUOTES)
    return re.sub(r" ([,.;:])", r"\1", tidy(text))


def main_versions(versions: Mapping[Version, object]) -> dict[str, Version]:
    """Language -> its first version."""
    found: dict[str, Version] = {}
    for version in versions:
        found.setdefault(version.language, version)
    return found
