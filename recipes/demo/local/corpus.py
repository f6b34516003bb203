"""Which phrases each set of the demo corpus holds, before anything is spoken.

=============  =====================  ================  ==========================
set            phrases                numerals          voices
=============  =====================  ================  ==========================
train          --                     train             train
dev            new                    train             dev
test           new                    held out          test
test_seen      those of train         train             test
test_template  the held-out template  train             test
test_engine    those of test          held out          another engine (flite)
=============  =====================  ================  ==========================

"New" means that neither the normalised English nor the normalised translation stands in training
or in another of the sets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from slots import is_held_out
from templates import HELD_OUT, TRAINED, Phrase, Template, fill

SIZES: dict[str, dict[str, int]] = {
    "full": {
        "train": 6000,
        "dev": 300,
        "test": 500,
        "test_seen": 300,
        "test_template": 200,
        "test_engine": 200,
    },
    "tiny": {
        "train": 300,
        "dev": 30,
        "test": 40,
        "test_seen": 20,
        "test_template": 20,
        "test_engine": 20,
    },
}
"""Utterances of each set."""

_TRIES = 200
"""Draws in a row without a new phrase after which a set counts as too large for its templates."""


@dataclass(frozen=True)
class Utterance:
    """One phrase of one set; ``id`` names set, position and template."""

    id: str
    phrase: Phrase


def normalise(text: str) -> str:
    """Case, punctuation and spacing taken away: what "the same sentence" means here."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w]+", " ", folded).split())


class Deck:
    """Draws phrases that no set had before."""

    def __init__(self, seed: int, target: str) -> None:
        self._rng = Random(seed)
        self._target = target
        self._known: set[str] = set()

    def _keys(self, phrase: Phrase) -> set[str]:
        return {
            f"{side} {normalise(phrase.texts[lang])}"
            for side, lang in (("source", "en"), ("target", self._target))
        }

    def deal(self, count: int, templates: Sequence[Template], held_out: bool) -> list[Phrase]:
        """``count`` new phrases, all of whose numerals training may have (or has not).

        With ``held_out`` at least one numeral of each phrase is held out.
        """
        weights = [template.weight for template in templates]
        dealt: list[Phrase] = []
        misses = 0
        while len(dealt) < count:
            template = self._rng.choices(templates, weights)[0]
            phrase = fill(template, self._rng, held_out)
            keys = self._keys(phrase)
            if any(map(is_held_out, phrase.numerals)) != held_out or keys & self._known:
                misses += 1
                if misses == _TRIES:
                    raise ValueError(f"the templates do not hold {count} different phrases")
                continue
            misses = 0
            self._known |= keys
            dealt.append(phrase)
        return dealt


def plan(size: str, target: str, seed: int) -> dict[str, list[Utterance]]:
    """The phrases of every set, in order.

    Args:
        size: a key of SIZES.
        target: language of the translations: de, fr or es.
        seed: everything drawn follows from it.
    """
    counts = SIZES[size]
    deck = Deck(seed, target)
    sets = {
        "train": deck.deal(counts["train"], TRAINED, held_out=False),
        "dev": deck.deal(counts["dev"], TRAINED, held_out=False),
        "test": deck.deal(counts["test"], TRAINED, held_out=True),
        "test_template": deck.deal(counts["test_template"], [HELD_OUT], held_out=False),
    }
    sets["test_seen"] = Random(seed).sample(sets["train"], counts["test_seen"])
    sets["test_engine"] = sets["test"][: counts["test_engine"]]
    return {
        name: [
            Utterance(f"{name}-{index:05d}-{phrase.template}", phrase)
            for index, phrase in enumerate(sets[name])
        ]
        for name in counts
    }
