"""Random generators that are functions of names and numbers, never of what ran before."""

from __future__ import annotations

import hashlib

import numpy as np

ROW, ORDER, SPEED, MIX, SAMPLE = range(5)
"""What a generator is for; two purposes never share their draws."""


def key_of(name: str) -> int:
    """A 32-bit number that stands for a stream's name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def generator(purpose: int, *numbers: int) -> np.random.Generator:
    """The generator of a purpose and some non-negative numbers, such as seed, stream and epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((purpose, *numbers))))
