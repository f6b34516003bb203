"""Scores of translations and transcripts, and whether two systems differ."""

from stk.scoring.bleu import Bleu, bleu
from stk.scoring.chrf import Chrf, chrf
from stk.scoring.metric import Metric, Score, score
from stk.scoring.significance import Comparison, paired_bootstrap
from stk.scoring.wer import Wer, wer

__all__ = [
    "Bleu",
    "Chrf",
    "Comparison",
    "Metric",
    "Score",
    "Wer",
    "bleu",
    "chrf",
    "paired_bootstrap",
    "score",
    "wer",
]
