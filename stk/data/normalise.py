"""Bringing texts to one form: for scoring, and between the models of a cascade."""

from __future__ import annotations

import unicodedata
from typing import Literal

Normalisation = Literal["none", "lower", "lower-nopunct"]

JOINERS = frozenset("'’-")
"""Punctuation that stays inside a word: apostrophes and hyphens between two letters or digits."""


def normalise(text: str, how: Normalisation) -> str:
    """Bring a text to one form; white space is collapsed and Unicode composed (NFKC) always.

    ``lower`` folds case; ``lower-nopunct`` also turns punctuation and symbols into spaces, except
    apostrophes and hyphens within a word.
    """
    text = unicodedata.normalize("NFKC", text)
    if how != "none":
        text = text.lower()
    if how == "lower-nopunct":
        text = "".join(char if _stays(text, i) else " " for i, char in enumerate(text))
    return " ".join(text.split())


def _stays(text: str, i: int) -> bool:
    if unicodedata.category(text[i])[0] not in "PS":
        return True
    inside = 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
    return inside and text[i] in JOINERS
