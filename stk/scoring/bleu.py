"""BLEU (Papineni et al., 2002) as sacreBLEU computes it (Post, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU as SacreBleu

from stk.errors import StkError
from stk.scoring.metric import Score, Statistics, score

TOKENISERS = {"zh": "zh", "yue": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""Target language -> sacreBLEU's tokeniser; every other language uses ``13a``."""

WITHOUT_SPACES = {"th", "lo", "km", "my", "bo", "dz"}
"""Languages written without spaces that have no tokeniser of their own: scored by character."""


def tokeniser_of(lang: str | None) -> str:
    """sacreBLEU's tokeniser for a target language (a region such as ``-BR`` is ignored)."""
    base = (lang or "").split("-")[0]
    return "char" if base in WITHOUT_SPACES else TOKENISERS.get(base, "13a")


class Bleu:
    """Cased, detokenised BLEU with exponential smoothing, orders 1 to 4.

    Args:
        lang: target language, which chooses the tokeniser.
        tokenise: a sacreBLEU tokeniser by name instead.
        lowercase: ignore case.

    Raises:
        StkError: the tokeniser is unknown or its package is not installed.
    """

    name = "BLEU"
    higher_is_better = True

    def __init__(
        self, lang: str | None = None, *, tokenise: str | None = None, lowercase: bool = False
    ) -> None:
        self.tokenise = tokenise or tokeniser_of(lang)
        if self.tokenise not in SacreBleu.TOKENIZERS:
            known = ", ".join(SacreBleu.TOKENIZERS)
            raise StkError(f"no BLEU tokeniser {self.tokenise!r}", mend=f"one of {known}")
        try:
            self._metric = SacreBleu(tokenize=self.tokenise, lowercase=lowercase, force=True)
        except (ImportError, RuntimeError) as error:
            extra = self.tokenise.split("-")[0]
            raise StkError(
                f"BLEU tokeniser {self.tokenise} is not installed: {error}",
                mend=f"pip install 'sacrebleu[{extra}]'",
            ) from None

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
        """``(N, 10)``: system and reference length, matches and totals of the four orders."""
        rows = self._metric._extract_corpus_statistics(list(hypotheses), [list(references)])
        return np.asarray(rows, dtype=np.float64)

    def combine(self, total: Statistics) -> float:
        """BLEU in percent of summed statistics."""
        counts = [int(count) for count in total]
        return float(self._metric._compute_score_from_stats(counts).score)

    def signature(self) -> str:
        """sacreBLEU's own signature; complete once something was scored."""
        return str(self._metric.get_signature())


def bleu(hypotheses: Sequence[str], references: Sequence[str], lang: str | None = None) -> Score:
    """Corpus BLEU with the tokeniser of the target language ``lang``.

    Raises:
        StkError: see :class:`Bleu` and :func:`stk.scoring.metric.score`.
    """
    return score(Bleu(lang), hypotheses, references)
