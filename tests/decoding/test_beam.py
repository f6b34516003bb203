"""Beam search against brute force, and what may never change its result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stk.config.run import DecodeConfig
from stk.decoding.beam import beam_search, length_limits
from stk.decoding.hypothesis import Hypotheses
from stk.decoding.scorers import Ensemble, Mixture, ModelScorer
from stk.errors import StkError
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

LIMIT = 4


def search(
    model: ToyModel,
    clips: list[Tensor],
    prefixes: list[list[int]] | None = None,
    limits: list[int] | None = None,
    **options: float,
) -> list[Hypotheses]:
    return beam_search(
        ModelScorer(model, model.encode(batch(clips))),
        prefixes=prefixes or [[] for _ in clips],
        limits=torch.tensor(limits or [LIMIT] * len(clips)),
        config=DecodeConfig(**options),  # type: ignore[arg-type]
        symbols=SYMBOLS,
    )


def close(one: Hypotheses, other: Hypotheses) -> bool:
    return [h.tokens for h in one] == [h.tokens for h in other] and [
        h.score for h in one
    ] == pytest.approx([h.score for h in other], abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("prefix", [[], [A], [B, A]])
def test_a_beam_of_all_outputs_is_brute_force(penalty: float, prefix: list[int]) -> None:
    model, clip = ToyModel(seed=3), sources(1)[0]
    outputs = enumerate_outputs(LIMIT)
    scored = [(log_prob(model, clip, prefix, (*words, EOS)), words) for words in outputs]
    ranked = sorted(((s / (len(w) + 1) ** penalty, s, w) for s, w in scored), reverse=True)
    found = search(model, [clip], [prefix], beam=200, nbest=5, length_penalty=penalty)[0]
    assert [h.tokens for h in found] == [words for _, _, words in ranked[:5]]
    assert [h.score for h in found] == pytest.approx([r[0] for r in ranked[:5]], abs=1e-5)
    assert [h.log_prob for h in found] == pytest.approx([r[1] for r in ranked[:5]], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_batching_and_order_change_nothing(beam: int, penalty: float) -> None:
    model, clips = ToyModel(seed=5), sources(9)
    prefixes = [[A] * (i % 3) for i in range(9)]
    limits = [2 + i % 5 for i in range(9)]
    options = {"beam": beam, "nbest": beam, "length_penalty": penalty}
    together = search(model, clips, prefixes, limits, **options)
    for i, clip in enumerate(clips):
        alone = search(model, [clip], [prefixes[i]], [limits[i]], **options)[0]
        assert close(alone, together[i])
    order = [4, 8, 0, 2, 6, 1, 3, 5, 7]
    shuffled = search(
        model,
        [clips[i] for i in order],
        [prefixes[i] for i in order],
        [limits[i] for i in order],
        **options,
    )
    for place, i in enumerate(order):
        assert close(shuffled[place], together[i])


def test_a_big_batch_with_sentences_that_end_at_different_steps() -> None:
    model, clips = ToyModel(seed=13), sources(70)
    limits = [1 + i * 7 % 12 for i in range(70)]
    together = search(model, clips, limits=limits, beam=3, nbest=3)
    for i in range(0, 70, 3):
        assert close(search(model, [clips[i]], limits=[limits[i]], beam=3, nbest=3)[0], together[i])


def test_beam_one_is_greedy() -> None:
    model, clips = ToyModel(seed=2), sources(6)
    for clip, found in zip(clips, search(model, clips, beam=1), strict=True):
        state, token, words = model.start(model.encode(batch([clip]))), BOS, []
        while len(words) < LIMIT:
            logits, state = model.step(torch.tensor([[token]]), state)
            logits[..., [0, BOS]] = -torch.inf
            token = int(logits.argmax())
            if token == EOS:
                break
            words.append(token)
        assert found[0].tokens == tuple(words)


def test_nbest_is_sorted_distinct_and_scored_as_stated() -> None:
    model, clip = ToyModel(seed=7), sources(1)[0]
    found = search(model, [clip], beam=6, nbest=6, length_penalty=0.8)[0]
    assert len(found) == 6
    assert len({h.tokens for h in found}) == 6
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for h in found:
        assert h.log_prob == pytest.approx(log_prob(model, clip, [], (*h.tokens, EOS)), abs=1e-5)
        assert h.score == pytest.approx(h.log_prob / (len(h.tokens) + 1) ** 0.8, abs=1e-6)


def test_stopping_early_never_changes_the_best() -> None:
    model, clips = ToyModel(seed=11, sharpness=6.0), sources(20)
    narrow = search(model, clips, beam=4, nbest=1, length_penalty=0.5)
    full = search(model, clips, beam=4, nbest=4, length_penalty=0.5)
    assert [h[0].tokens for h in narrow] == [h[0].tokens for h in full]


def test_an_ensemble_of_copies_is_one_and_a_mean_of_two() -> None:
    one, two, clips = ToyModel(seed=1), ToyModel(seed=2), sources(4)
    config, limits = DecodeConfig(beam=3, nbest=3), torch.tensor([LIMIT] * 4)

    def run(*models: ToyModel) -> list[Hypotheses]:
        scorer = Ensemble([ModelScorer(m, m.encode(batch(clips))) for m in models])
        return beam_search(scorer, prefixes=[[]] * 4, limits=limits, config=config, symbols=SYMBOLS)

    single = search(one, clips, beam=3, nbest=3)
    assert all(map(close, run(one, one, one), single))
    scorers = [ModelScorer(m, m.encode(batch(clips))) for m in (one, two)]
    tokens = torch.full((4, 1), BOS)
    mean = (scorers[0].step(tokens).exp() + scorers[1].step(tokens).exp()) / 2
    members = [ModelScorer(m, m.encode(batch(clips))) for m in (one, two)]
    torch.testing.assert_close(Ensemble(members).step(tokens).exp(), mean)
    assert all(map(close, run(one, two), run(two, one)))


def test_fusion_adds_weighted_scores() -> None:
    model, lm, clip = ToyModel(seed=1), ToyModel(seed=9), sources(1)[0]
    encoded = [m.encode(batch([clip])) for m in (model, lm)]
    scorer = Mixture([(1.0, ModelScorer(model, encoded[0])), (0.3, ModelScorer(lm, encoded[1]))])
    found = beam_search(
        scorer,
        prefixes=[[]],
        limits=torch.tensor([LIMIT]),
        config=DecodeConfig(beam=200, nbest=1),
        symbols=SYMBOLS,
    )[0][0]

    def total(words: tuple[int, ...]) -> float:
        full = (*words, EOS)
        sums = log_prob(model, clip, [], full) + 0.3 * log_prob(lm, clip, [], full)
        return sums / len(full)

    best = max(enumerate_outputs(LIMIT), key=total)
    assert found.tokens == best
    assert found.score == pytest.approx(total(best), abs=1e-5)


def test_length_bounds_hold() -> None:
    model, clips = ToyModel(seed=4), sources(5)
    found = search(model, clips, limits=[1, 2, 3, 4, 5], beam=3, nbest=3, min_length=3)
    for limit, hypotheses in enumerate(found, start=1):
        assert {len(h.tokens) for h in hypotheses} <= set(range(min(3, limit), limit + 1))
    config = DecodeConfig(max_ratio=0.5, max_extra=3, max_length=10)
    assert length_limits(torch.tensor([0, 1, 4, 100]), config).tolist() == [3, 4, 5, 10]


def test_forbidden_tokens_are_never_written() -> None:
    found = search(ToyModel(seed=6, sharpness=0.1), sources(3), beam=8, nbest=8)
    written = {token for hypotheses in found for h in hypotheses for token in h.tokens}
    assert written and not written & set(SYMBOLS.forbidden)


class Flat:
    """Every token is as likely as every other."""

    def step(self, tokens: Tensor) -> Tensor:
        return torch.full((*tokens.shape, VOCAB), -1.0)

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Nothing to follow."""


def test_ties_go_to_the_lower_hypothesis_then_token() -> None:
    found = beam_search(
        Flat(),
        prefixes=[[], []],
        limits=torch.tensor([2, 2]),
        config=DecodeConfig(beam=4, nbest=4, length_penalty=0.0),
        symbols=SYMBOLS,
    )
    assert found[0] == found[1]
    assert [h.tokens for h in found[0]] == [(), (1,), (1, 1), (1, A)]


def test_scores_that_are_not_numbers_are_one_clear_error() -> None:
    model = ToyModel()
    model.output[:] = torch.nan
    with pytest.raises(StkError, match="not numbers"):
        search(model, sources(2), beam=2)


def test_no_sentence_gives_no_result() -> None:
    config = DecodeConfig()
    empty = torch.empty(0, dtype=torch.int64)
    assert beam_search(Flat(), prefixes=[], limits=empty, config=config, symbols=SYMBOLS) == []
