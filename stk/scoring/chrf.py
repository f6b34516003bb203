"""chrF (Popovic, 2015) and chrF++ (Popovic, 2017) as sacreBLEU computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import CHRF as SacreChrf

from stk.scoring.metric import Score, Statistics, score


class Chrf:
    """Character n-gram F2 score, orders 1 to 6.

    Args:
        word_order: 0 gives chrF, 2 gives chrF++.
        lowercase: ignore case.
    """

    higher_is_better = True

    def __init__(self, *, word_order: int = 0, lowercase: bool = False) -> None:
        self._metric = SacreChrf(word_order=word_order, lowercase=lowercase)
        self.name = "chrF2" + "+" * word_order

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
        """``(N, 3 * orders)``: n-grams of hypothesis and reference and their matches."""
        rows = self._metric._extract_corpus_statistics(list(hypotheses), [list(references)])
        return np.asarray(rows, dtype=np.float64)

    def combine(self, total: Statistics) -> float:
        """chrF in percent of summed statistics."""
        return float(self._metric._compute_score_from_stats(total.tolist()).score)

    def signature(self) -> str:
        """sacreBLEU's own signature; complete once something was scored."""
        return str(self._metric.get_signature())


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus chrF2.

    Raises:
        StkError: see :func:`stk.scoring.metric.score`.
    """
    return score(Chrf(), hypotheses, references)
