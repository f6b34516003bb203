"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One finished output of one sentence.

    Attributes:
        tokens: ids written, without begin symbol, prefix and end symbol.
        score: what hypotheses are ranked by, ``log_prob / (len(tokens) + 1) ** length_penalty``
            (the end symbol counts as written).
        log_prob: sum of the scorer's scores over ``tokens`` and the end symbol (at most 0).
    """

    tokens: tuple[int, ...]
    score: float
    log_prob: float


Hypotheses = list[Hypothesis]
"""The n best of one sentence, best first."""
