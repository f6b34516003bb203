"""Splitting clips by sentence, so that nothing in the test set was heard, read or seen before.

Clips belong together when they share the normalised English sentence. So do sentences that share
a transcript in some language ("a walnut" and "a pecan" are one word in several of them) or a
recording: a group of such sentences goes to one side as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from stamps import Clip, normalise

SHARES = {"test": 0.15, "dev": 0.07}
"""Share of the sentences; the rest is for training."""


def groups(clips: Sequence[Clip]) -> dict[str, str]:
    """Normalised English sentence -> the least sentence of its group."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for clip in clips:
        sentence = root(f"en {normalise(clip.english)}")
        for other in (f"{clip.lang} {normalise(clip.transcript)}", f"sound {clip.digest}"):
            parent[root(other)] = sentence
    sentences = sorted({normalise(clip.english) for clip in clips})
    least: dict[str, str] = {}
    for sentence in sentences:
        least.setdefault(root(f"en {sentence}"), sentence)
    return {sentence: least[root(f"en {sentence}")] for sentence in sentences}


def split(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Clips of train, dev and test, in the given order.

    Groups are taken in the order of a hash of their name until a share is filled: no random
    state, the same split everywhere.
    """
    group_of = groups(clips)
    members: dict[str, list[str]] = {}
    for sentence, group in group_of.items():
        members.setdefault(group, []).append(sentence)
    order = sorted(members, key=lambda group: hashlib.sha256(group.encode()).digest())
    side_of: dict[str, str] = {}
    sides = iter([(side, share * len(group_of)) for side, share in SHARES.items()])
    side, wanted = next(sides)
    taken = 0
    for group in order:
        if taken >= wanted:
            side, wanted = next(sides, ("train", float("inf")))
            taken = 0
        taken += len(members[group])
        for sentence in members[group]:
            side_of[sentence] = side
    chosen: dict[str, list[Clip]] = {"train": [], "dev": [], "test": []}
    for clip in clips:
        chosen[side_of[normalise(clip.english)]].append(clip)
    return chosen
