"""Scores against sacreBLEU and jiwer themselves."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from stk.errors import StkError
from stk.scoring import Bleu, Chrf, Wer, bleu, chrf, score, wer
from stk.scoring.bleu import tokeniser_of
from stk.scoring.wer import edits, normalise

HYPOTHESES = ["The cat sat on the mat.", "He said: hello, world!", "", "one two three four five"]
REFERENCES = ["The cat is on the mat.", "He said hello to the world!", "A dog.", "one two four"]


def test_bleu_and_chrf_are_sacrebleu() -> None:
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES])
    found = bleu(HYPOTHESES, REFERENCES, "en")
    assert found.value == pytest.approx(expected.score, abs=1e-9)
    assert "tok:13a" in found.signature and "case:mixed" in found.signature
    assert "nrefs:1" in found.signature and "version:" in found.signature
    assert chrf(HYPOTHESES, REFERENCES).value == pytest.approx(
        sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score, abs=1e-9
    )
    plus = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    found = score(Chrf(word_order=2), HYPOTHESES, REFERENCES)
    assert (found.name, found.value) == ("chrF2++", pytest.approx(plus, abs=1e-9))


def test_the_tokeniser_follows_the_language() -> None:
    assert [tokeniser_of(lang) for lang in ("de", "zh", "zh-TW", "th", None)] == [
        "13a",
        "zh",
        "zh",
        "char",
        "13a",
    ]
    text = ["他在桌子上看到了一只猫"]
    assert bleu(text, text, "zh").value == pytest.approx(100.0)
    assert "tok:zh" in bleu(text, text, "zh").signature
    with pytest.raises(StkError, match="no BLEU tokeniser 'moses'"):
        Bleu(tokenise="moses")


def test_lowercase_is_part_of_the_signature() -> None:
    found = score(Bleu("en", lowercase=True), [h.upper() for h in HYPOTHESES], REFERENCES)
    assert found.value == pytest.approx(
        sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], lowercase=True).score
    )
    assert "case:lc" in found.signature


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_edits_are_jiwers(hypothesis: list[str], reference: list[str]) -> None:
    found = edits(hypothesis, reference)
    if not reference:
        assert (found.total, found.insertions) == (len(hypothesis), len(hypothesis))
        return
    expected = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    total = expected.substitutions + expected.deletions + expected.insertions
    assert found.total == total
    assert found.insertions - found.deletions == len(hypothesis) - len(reference)
    assert min(found.substitutions, found.deletions, found.insertions) >= 0


def test_wer_sums_before_it_divides_and_names_its_normalisation() -> None:
    found = wer(HYPOTHESES, REFERENCES, "none")
    expected = jiwer.wer(REFERENCES, HYPOTHESES)
    assert found.value == pytest.approx(100 * expected)
    assert "norm:none" in found.signature
    cer = score(Wer("none", unit="char"), ["a bc"], ["ab d"])
    assert (cer.name, cer.value) == ("CER", pytest.approx(100 / 3))
    assert wer(["hello WORLD"], ["Hello, world!"]).value == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't  stop,\tplease!", "don't stop please"),
        ("L’été — à 5 %", "l’été à 5"),
        ("well-known -- 'quoted'", "well-known quoted"),
        ("ﬁne", "fine"),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert normalise(text, "lower-nopunct") == expected


def test_what_cannot_be_scored_is_one_clear_error() -> None:
    with pytest.raises(StkError, match="2 hypotheses but 1 references"):
        bleu(["a", "b"], ["a"])
    with pytest.raises(StkError, match="nothing to score"):
        chrf([], [])
    with pytest.raises(StkError, match="empty after normalisation"):
        wer(["a"], ["!"])
    with pytest.raises(StkError, match="no WER normalisation"):
        Wer("upper")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [Bleu("en"), Chrf(), Wer()])
def test_statistics_add_up(metric: Bleu | Chrf | Wer) -> None:
    rows = metric.statistics(HYPOTHESES, REFERENCES)
    doubled = metric.statistics(HYPOTHESES * 2, REFERENCES * 2)
    np.testing.assert_array_equal(2 * rows.sum(0), doubled.sum(0))
    whole = score(metric, HYPOTHESES, REFERENCES)
    assert metric.combine(rows.sum(0)) == pytest.approx(whole.value)
