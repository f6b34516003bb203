"""Word and character error rate, with the normalisation named in the signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stk.data.normalise import Normalisation, normalise
from stk.errors import StkError
from stk.scoring.metric import Score, Statistics, score

Unit = Literal["word", "char"]


@dataclass(frozen=True, slots=True)
class Edits:
    """The fewest edits that turn a reference into a hypothesis, by kind."""

    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """Edit distance."""
        return self.substitutions + self.deletions + self.insertions


def edits(hypothesis: Sequence[str], reference: Sequence[str]) -> Edits:
    """Align two token sequences with unit costs (Levenshtein, 1966).

    Of several alignments with the fewest edits one with the most substitutions counts. Rows of the
    table are computed as arrays: within a row, insertions are a running minimum.
    """
    # One integer orders (distance, indels): distance first.
    big = len(hypothesis) + len(reference) + 1
    change, indel = big, big + 1
    index = {token: i for i, token in enumerate(dict.fromkeys([*hypothesis, *reference]))}
    columns = np.array([index[token] for token in hypothesis], dtype=np.int64)
    ramp = np.arange(len(hypothesis) + 1, dtype=np.int64) * indel
    row = ramp.copy()
    for token in reference:
        best = row + indel
        np.minimum(best[1:], row[:-1] + change * (columns != index[token]), out=best[1:])
        row = np.minimum.accumulate(best - ramp) + ramp
    distance, indels = divmod(int(row[-1]), big)
    surplus = len(hypothesis) - len(reference)
    insertions = (indels + surplus) // 2
    return Edits(distance - indels, indels - insertions, insertions)


class Wer:
    """Edits over reference tokens, in percent, summed over the corpus before dividing.

    Args:
        normalisation: see :func:`stk.data.normalise.normalise`.
        unit: ``word`` (WER) or ``char`` (CER, spaces left out).
    """

    higher_is_better = False

    def __init__(self, normalisation: Normalisation = "lower-nopunct", unit: Unit = "word") -> None:
        if normalisation not in get_args(Normalisation):
            known = ", ".join(get_args(Normalisation))
            raise StkError(f"no WER normalisation {normalisation!r}", mend=f"one of {known}")
        self.normalisation, self.unit = normalisation, unit
        self.name = "WER" if unit == "word" else "CER"
        split: Callable[[str], list[str]] = str.split
        self._split = split if unit == "word" else lambda text: list(text.replace(" ", ""))

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
        """``(N, 4)``: substitutions, deletions, insertions, reference tokens."""
        rows = np.zeros((len(hypotheses), 4))
        for i, (hypothesis, reference) in enumerate(zip(hypotheses, references, strict=True)):
            words = self._split(normalise(reference, self.normalisation))
            found = edits(self._split(normalise(hypothesis, self.normalisation)), words)
            rows[i] = found.substitutions, found.deletions, found.insertions, len(words)
        return rows

    def combine(self, total: Statistics) -> float:
        """Error rate in percent of summed statistics (above 100 with many insertions).

        Raises:
            StkError: the references hold no token after normalisation.
        """
        if total[3] == 0:
            raise StkError(f"{self.name}: the references are empty after normalisation")
        return float(100 * total[:3].sum() / total[3])

    def signature(self) -> str:
        """Unit and normalisation."""
        return f"unit:{self.unit}|norm:{self.normalisation}|unicode:NFKC|weights:1-1-1"


def wer(
    hypotheses: Sequence[str],
    references: Sequence[str],
    normalisation: Normalisation = "lower-nopunct",
) -> Score:
    """Corpus word error rate.

    Raises:
        StkError: see :class:`Wer` and :func:`stk.scoring.metric.score`.
    """
    return score(Wer(normalisation), hypotheses, references)
