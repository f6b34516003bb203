"""What every metric offers: statistics a sentence, a score of their sum, a signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stk.errors import StkError

Statistics = NDArray[np.float64]
"""``(N, k)``: one row a sentence; a corpus score is a function of the sum of rows."""


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score.

    Attributes:
        name: ``BLEU``, ``chrF2``, ``WER`` ...
        value: in percent.
        signature: everything that has to be equal for two such scores to be comparable.
        sentences: how many sentences were scored.
    """

    name: str
    value: float
    signature: str
    sentences: int

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.2f} ({self.sentences} sentences, {self.signature})"


class Metric(Protocol):
    """A corpus metric that is a function of summed sentence statistics."""

    @property
    def name(self) -> str:
        """Short name, as printed."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether a better system has a higher value."""
        ...

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
        """One row of counts a sentence."""
        ...

    def combine(self, total: Statistics) -> float:
        """The score in percent of summed statistics ``(k,)``."""
        ...

    def signature(self) -> str:
        """Settings of the metric, in one string without spaces."""
        ...


def score(metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """The corpus score of ``hypotheses`` against one reference each.

    Raises:
        StkError: their numbers differ, or there are none.
    """
    check_lengths(hypotheses, references)
    value = metric.combine(metric.statistics(hypotheses, references).sum(axis=0))
    return Score(metric.name, value, metric.signature(), len(hypotheses))


def check_lengths(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise unless there is one reference for each of at least one hypothesis."""
    if len(hypotheses) != len(references):
        raise StkError(
            f"{len(hypotheses)} hypotheses but {len(references)} references",
            mend="both need one line a sentence, in the same order",
        )
    if not hypotheses:
        raise StkError("there is nothing to score", mend="the files hold no sentences")
