"""Reading Tux Paint's stamps: recordings with transcripts, and an English sentence each.

A stamp ``animals/cat`` has a text file ``cat.txt``, whose first line is English and whose others
are ``LANG.utf8=sentence``, and recordings ``cat_desc_LANG.ogg`` of the same sentences.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stk.errors import StkError

LANGUAGES = ("fr", "es", "ca", "ro", "ru", "bg", "be", "el")
"""Languages with enough recordings."""


@dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        id: language and stamp, unique.
        path: the OGG file.
        lang: language spoken.
        transcript: what is said, as written in the package.
        english: its English counterpart.
        digest: SHA-256 of the file; copies of one recording share it.
    """

    id: str
    path: Path
    lang: str
    transcript: str
    english: str
    digest: str


def normalise(text: str) -> str:
    """Case, punctuation and spacing taken away: what "the same sentence" means here."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w]+", " ", folded).split())


def read_text(path: Path) -> tuple[str, dict[str, str]]:
    """The English sentence of a stamp's text file, and the others by language."""
    lines = path.read_text(encoding="utf-8").splitlines()
    english = " ".join(lines[0].split()) if lines else ""
    others = {}
    for line in lines[1:]:
        key, found, sentence = line.partition(".utf8=")
        if found and sentence.strip():
            others[key] = " ".join(sentence.split())
    return english, others


def read_clips(
    root: Path, languages: Sequence[str] = LANGUAGES
) -> tuple[list[Clip], Counter[tuple[str, str]]]:
    """Every usable recording below ``root``, sorted by id, and why others were left out.

    A recording is left out when its text file or a text is missing, and when it is a copy of
    another whose sentences are the same.

    Raises:
        StkError: there is none at all.
    """
    clips: list[Clip] = []
    left_out: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str, str, str]] = set()
    for lang in languages:
        for path in sorted(root.rglob(f"*_desc_{lang}.ogg")):
            stem = path.name.removesuffix(f"_desc_{lang}.ogg")
            text = path.with_name(f"{stem}.txt")
            if not text.is_file():
                left_out[lang, "no text file"] += 1
                continue
            english, others = read_text(text)
            if not normalise(english) or not normalise(others.get(lang, "")):
                left_out[lang, "no sentence"] += 1
                continue
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            key = (lang, digest, normalise(english), normalise(others[lang]))
            if key in seen:
                left_out[lang, "copy"] += 1
                continue
            seen.add(key)
            place = path.parent.relative_to(root) / stem
            name = f"{lang}-{'-'.join(place.parts)}"
            clips.append(Clip(name, path, lang, others[lang], english, digest))
    if not clips:
        raise StkError("no recordings found", file=root, mend="run the stage fetch again")
    return clips, left_out
