"""Who speaks: accents and variants of espeak-ng, split so that test voices are new."""

from __future__ import annotations

from random import Random

ACCENTS = (
    "en",
    "en-us",
    "en-gb-scotland",
    "en-gb-x-rp",
)
"""espeak-ng voice codes. They set the pronunciation and occur in every set."""

VARIANTS = {
    "train": (
        *("m1", "m2", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f4", "f5"),
        *("Alex", "Alicia", "Andy", "Annie", "Gene", "Michael", "Reed", "adam", "david", "edward"),
        *("grandma", "grandpa", "john", "linda", "max", "paul", "quincy", "steph"),
    ),
    "dev": ("Lee", "belinda"),
    "test": ("m3", "f3", "rob"),
}
"""Variants set pitch, formants and voice quality: they are the voices, and each has one side."""

RATES = range(150, 201)  # words a minute
PITCHES = range(40, 61)  # of 0..100


def draw(rng: Random, side: str) -> tuple[str, str, int, int]:
    """Accent, variant, rate and pitch of one utterance; ``side`` is a key of VARIANTS."""
    return (
        rng.choice(ACCENTS),
        rng.choice(VARIANTS[side]),
        rng.choice(RATES),
        rng.choice(PITCHES),
    )
