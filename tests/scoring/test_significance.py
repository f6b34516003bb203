"""Paired bootstrap: against sacreBLEU's, under the null, and by group."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from stk.errors import StkError
from stk.scoring import Bleu, Chrf, Wer, paired_bootstrap
from stk.scoring.significance import resample

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "dogs",
    "ran",
    "over",
    "hills",
    "and",
    "far",
    "away",
    "today",
]


def corpus(count: int, error: float, seed: int) -> list[str]:
    """Sentences of the same seed-free references with words replaced at rate ``error``."""
    text, noise = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = list(text.choice(WORDS, size=text.integers(6, 14)))
        rows.append(" ".join(w if noise.random() >= error else "xx" for w in words))
    return rows


REFERENCES = corpus(150, 0.0, 0)
GOOD, BAD = corpus(150, 0.10, 1), corpus(150, 0.16, 2)


def test_agrees_with_sacrebleu() -> None:
    found = paired_bootstrap(Bleu("en"), BAD, GOOD, REFERENCES, samples=500)
    test = PairedTest(
        [("bad", BAD), ("good", GOOD)],
        {"BLEU": BLEU(force=True)},
        [REFERENCES],
        test_type="bs",
        n_samples=500,
    )
    results = test()[1]["BLEU"]
    assert found.baseline == pytest.approx(results[0].score)
    assert found.system == pytest.approx(results[1].score)
    assert found.p_value == pytest.approx(results[1].p_value, abs=0.05)
    assert found.low < found.difference < found.high


@pytest.mark.parametrize("metric", [Bleu("en"), Chrf(), Wer()])
def test_better_is_better_whichever_way_the_metric_points(metric: Bleu | Chrf | Wer) -> None:
    found = paired_bootstrap(metric, BAD, GOOD, REFERENCES, samples=200)
    back = paired_bootstrap(metric, GOOD, BAD, REFERENCES, samples=200)
    assert found.better > 0.95 and found.p_value < 0.05
    assert back.better < 0.05
    assert back.difference == pytest.approx(-found.difference)
    assert (found.difference > 0) == metric.higher_is_better


def test_equal_systems_do_not_differ() -> None:
    found = paired_bootstrap(Chrf(), GOOD, GOOD, REFERENCES, samples=100)
    assert (found.difference, found.p_value, found.better) == (0.0, 1.0, 0.0)


def test_clips_that_share_a_reference_are_drawn_together() -> None:
    repeat = 6
    one = [paired_bootstrap(Chrf(), BAD, GOOD, REFERENCES, samples=300)]
    many = [s * repeat for s in (BAD, GOOD, REFERENCES)]
    grouped = paired_bootstrap(Chrf(), *many, samples=300)
    apart = paired_bootstrap(Chrf(), *many, samples=300, groups=range(len(many[0])))
    assert grouped.groups == len(set(REFERENCES))
    cased = [many[2][0].upper() + "!", *many[2][1:]]
    assert paired_bootstrap(Chrf(), many[0], many[1], cased).groups == grouped.groups
    assert apart.groups == len(many[0])
    width = grouped.high - grouped.low
    assert width == pytest.approx(one[0].high - one[0].low)
    assert apart.high - apart.low < 0.6 * width


def test_a_seed_fixes_the_result() -> None:
    runs = [paired_bootstrap(Chrf(), BAD, GOOD, REFERENCES, samples=50, seed=s) for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    draws = resample(7, 30, seed=3)
    assert draws.shape == (30, 7)
    assert (draws.sum(axis=1) == 7).all()


def test_one_sentence_cannot_be_resampled() -> None:
    with pytest.raises(StkError, match="one group"):
        paired_bootstrap(Chrf(), ["a", "b"], ["a", "b"], ["c", "c"])
    with pytest.raises(StkError, match="hypotheses but"):
        paired_bootstrap(Chrf(), ["a"], ["a", "b"], ["c", "d"])
