"""The split into train, dev and test, by verse, across all versions and languages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from versions import Verse

from stk.data.substitution import words_of

SHARES = {"test": 0.03, "dev": 0.01}
"""Of groups of verses; the rest is for training."""


def groups(versions: Iterable[Mapping[Verse, str]]) -> dict[Verse, Verse]:
    """Verse -> first verse of its group. Verses that read alike in any version are one group, so
    that what is tested was read in training in no language."""
    parent: dict[Verse, Verse] = {}

    def find(verse: Verse) -> Verse:
        while parent[verse] != verse:
            parent[verse] = parent[parent[verse]]
            verse = parent[verse]
        return verse

    for verses in versions:
        first: dict[str, Verse] = {}
        for verse in sorted(verses):
            parent.setdefault(verse, verse)
            same = first.setdefault(" ".join(words_of(verses[verse].lower())), verse)
            low, high = sorted((find(same), find(verse)))
            parent[high] = low
    return {verse: find(verse) for verse in parent}


def split(versions: Iterable[Mapping[Verse, str]]) -> dict[Verse, str]:
    """Verse -> ``train``, ``dev`` or ``test``: a function of its group's first verse alone."""
    return {verse: side_of(first) for verse, first in groups(versions).items()}


def side_of(verse: Verse) -> str:
    """Side of a group of verses."""
    place = chance(verse, "split")
    for side, share in SHARES.items():
        if place < share:
            return side
        place -= share
    return "train"


def chance(verse: Verse, what: str) -> float:
    """A number in [0, 1) that depends on the verse and on what it is for, and on nothing else."""
    name = f"{what} {'.'.join(map(str, verse))}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64
