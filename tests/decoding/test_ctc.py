"""CTC prefix scores against enumeration of all paths, and against PyTorch's CTC loss."""

from __future__ import annotations

import math
from itertools import groupby, product

import pytest
import torch

from stk.config.run import DecodeConfig
from stk.decoding.beam import beam_search
from stk.decoding.ctc_greedy import ctc_greedy
from stk.decoding.ctc_prefix import IMPOSSIBLE, CtcPrefixScorer
from stk.decoding.scorers import Mixture, ModelScorer
from tests.decoding.toy import (
    BOS,
    EOS,
    SYMBOLS,
    VOCAB,
    A,
    B,
    ToyModel,
    batch,
    enumerate_outputs,
    log_prob,
    sources,
)


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in groupby(path) if label != 0)


def outputs(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every output, by enumeration of all paths of ``(T, V)``."""
    found: dict[tuple[int, ...], float] = {}
    rows = log_probs.double().exp().tolist()
    for path in product(range(len(rows[0])), repeat=len(rows)):
        weight = math.prod(row[label] for row, label in zip(rows, path, strict=True))
        found[collapse(path)] = found.get(collapse(path), 0.0) + weight
    return found


def total(scorer: CtcPrefixScorer, words: tuple[int, ...], row: int = 0) -> float:
    """Sum of increments along ``words``, the first of which is read after the begin symbol."""
    rows = scorer.lengths.numel()
    increments, score = scorer.step(torch.full((rows, 1), BOS)), 0.0
    for word in words:
        score += float(increments[row, 0, word])
        increments = scorer.step(torch.full((rows, 1), word))
    return score


@pytest.mark.parametrize("words", [(A,), (A, B), (A, A), (B, A, A), (B, B, B)])
def test_prefix_scores_are_sums_over_paths(words: tuple[int, ...]) -> None:
    lengths = torch.tensor([5, 3])
    logits = torch.randn(2, 5, VOCAB, generator=torch.Generator().manual_seed(1)) * 2
    silent = torch.ones(2, dtype=torch.int64)
    for row in range(2):
        every = outputs(logits[row, : lengths[row]].log_softmax(-1))
        scorer = CtcPrefixScorer(logits, lengths, silent=silent, eos=EOS)
        begins = sum(p for out, p in every.items() if out[: len(words)] == words)
        found = total(scorer, words, row)
        expected = math.log(begins) if begins > 0 else None
        if expected is None:
            assert found <= IMPOSSIBLE
            continue
        assert found == pytest.approx(expected, abs=1e-4)
        scorer = CtcPrefixScorer(logits, lengths, silent=silent, eos=EOS)
        whole = total(scorer, (*words, EOS), row)
        assert whole == pytest.approx(math.log(every[words]), abs=1e-4)


def test_the_end_agrees_with_ctc_loss_on_long_clips() -> None:
    rng = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 400, 30, generator=rng) * 5
    lengths = torch.tensor([400, 399, 250])
    targets = torch.randint(4, 30, (3, 40), generator=rng)
    targets[:, 7] = targets[:, 6]
    loss = torch.nn.functional.ctc_loss(
        logits.double().log_softmax(-1).transpose(0, 1),
        targets,
        lengths,
        torch.tensor([40, 40, 40]),
        reduction="none",
    )
    scorer = CtcPrefixScorer(logits, lengths, silent=torch.ones(3, dtype=torch.int64), eos=EOS)
    increments = scorer.step(torch.full((3, 1), BOS))
    score = torch.zeros(3)
    for u in range(40):
        score += increments[:, 0].gather(1, targets[:, u, None])[:, 0]
        increments = scorer.step(targets[:, u, None])
    score += increments[:, 0, EOS]
    torch.testing.assert_close(score.double(), -loss, atol=2e-2, rtol=1e-5)


def test_prefix_tags_are_silent_and_reordering_follows() -> None:
    logits = torch.randn(2, 5, VOCAB, generator=torch.Generator().manual_seed(3))
    lengths, silent = torch.tensor([5, 4]), torch.tensor([2, 1])
    scorer = CtcPrefixScorer(logits, lengths, silent=silent, eos=EOS)
    scorer.step(torch.tensor([[BOS], [BOS]]))
    scorer.step(torch.tensor([[7 % VOCAB], [A]]))  # a tag in row 0, a token in row 1
    scorer.reorder(torch.tensor([[0, 0], [0, 0]]))
    scorer.step(torch.tensor([[A, B], [B, A]]))
    scorer.reorder(torch.tensor([[1], [0]]), torch.tensor([1]))
    after = scorer.step(torch.tensor([[A]]))
    fresh = CtcPrefixScorer(logits[1:], lengths[1:], silent=torch.tensor([1]), eos=EOS)
    for word in (BOS, A, B):
        fresh.step(torch.tensor([[word]]))
    torch.testing.assert_close(after, fresh.step(torch.tensor([[A]])))


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_joint_search_is_brute_force(weight: float) -> None:
    model, clip = ToyModel(seed=8), sources(1, seed=4)[0]
    encoded = model.encode(batch([clip]))
    assert encoded.ctc_logits is not None
    every = outputs(encoded.ctc_logits[0].log_softmax(-1))
    ctc = CtcPrefixScorer(encoded.ctc_logits, encoded.lengths, silent=torch.tensor([2]), eos=EOS)
    scorer = Mixture([(1 - weight, ModelScorer(model, encoded)), (weight, ctc)])
    found = beam_search(
        scorer,
        prefixes=[[A]],
        limits=torch.tensor([3]),
        config=DecodeConfig(beam=100, nbest=3, length_penalty=1.0),
        symbols=SYMBOLS,
    )[0]

    def joint(words: tuple[int, ...]) -> float:
        attention = log_prob(model, clip, [A], (*words, EOS))
        if every.get(words, 0.0) == 0.0:
            return -math.inf
        mixed = (1 - weight) * attention + weight * math.log(every[words])
        return mixed / (len(words) + 1)

    best = sorted(enumerate_outputs(3), key=joint, reverse=True)[:3]
    assert [h.tokens for h in found] == best
    assert [h.score for h in found] == pytest.approx([joint(w) for w in best], abs=1e-4)


def test_joint_search_ends_where_the_ctc_allows_nothing() -> None:
    logits = torch.full((1, 1, VOCAB), -50.0)
    logits[0, 0, 0] = 50.0
    ctc = CtcPrefixScorer(logits, torch.tensor([1]), silent=torch.tensor([1]), eos=EOS)
    config = DecodeConfig(beam=2, min_length=3)
    found = beam_search(
        ctc, prefixes=[[]], limits=torch.tensor([3]), config=config, symbols=SYMBOLS
    )
    assert len(found[0][0].tokens) == 3


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    paths = [[A, A, 0, A, B, B], [0, B, 0, 0, A, A]]
    logits = torch.nn.functional.one_hot(torch.tensor(paths), VOCAB).float() * 20
    found = ctc_greedy(logits, torch.tensor([6, 4]))
    assert [h.tokens for h in found] == [(A, A, B), (B,)]
    best = logits[1, :4].log_softmax(-1).amax(-1).sum()
    assert found[1].log_prob == pytest.approx(float(best), abs=1e-6)
