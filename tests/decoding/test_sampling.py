"""Sampling: the model's own distribution, a sentence's own draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from stk.config.run import DecodeConfig
from stk.data.rng import SAMPLE, generator
from stk.decoding.hypothesis import Hypotheses
from stk.decoding.sampling import draw, sample
from stk.decoding.scorers import ModelScorer
from stk.errors import StkError
from tests.decoding.toy import (
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


def sampled(
    model: ToyModel,
    clips: list[Tensor],
    names: list[int],
    *,
    prefixes: list[list[int]] | None = None,
    limits: list[int] | None = None,
    **options: float,
) -> list[Hypotheses]:
    return sample(
        ModelScorer(model, model.encode(batch(clips))),
        prefixes=prefixes or [[] for _ in clips],
        limits=torch.tensor(limits or [4] * len(clips)),
        config=DecodeConfig(search="sample", **options),  # type: ignore[arg-type]
        symbols=SYMBOLS,
        generators=[generator(SAMPLE, 1, name) for name in names],
    )


def test_frequencies_are_probabilities() -> None:
    """Every output of at most two words, against its probability without what is forbidden."""
    model, clip = ToyModel(seed=3, sharpness=1.0), sources(1)[0]
    found = sampled(model, [clip], [7], limits=[2], nbest=20000)[0]
    assert len(found) == 20000
    counts = Counter(h.tokens for h in found)
    state, allowed = model.start(model.encode(batch([clip]))), [1, EOS, A, B]
    logits, state = model.step(torch.tensor([[2]]), state)
    first = logits[0, 0, allowed].double().softmax(0)
    expected: dict[tuple[int, ...], float] = {(): float(first[1])}
    for i, word in enumerate(allowed):
        if word == EOS:
            continue
        logits, _ = model.step(torch.tensor([[word]]), state)
        second = logits[0, 0, allowed].double().softmax(0)
        for k, other in enumerate(allowed):
            whole = (word,) if other == EOS else (word, other)
            expected[whole] = float(first[i] * second[k])
    assert set(counts) <= set(expected) == set(enumerate_outputs(2))
    for words, p in expected.items():
        assert abs(counts[words] / 20000 - p) < 4.5 * (p * (1 - p) / 20000) ** 0.5 + 1e-6, words
    for h in found[:50]:
        full = (*h.tokens, EOS)
        assert h.log_prob == pytest.approx(log_prob(model, clip, [], full), abs=1e-5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize("nbest", [1, 3])
def test_neighbours_and_order_change_nothing(nbest: int) -> None:
    model, clips = ToyModel(seed=5, sharpness=1.0), sources(9)
    prefixes = [[A] * (i % 3) for i in range(9)]
    limits = [2 + i % 5 for i in range(9)]
    together = sampled(model, clips, [*range(9)], prefixes=prefixes, limits=limits, nbest=nbest)
    for i, clip in enumerate(clips):
        asked = {"prefixes": [prefixes[i]], "limits": [limits[i]]}
        alone = sampled(model, [clip], [i], nbest=nbest, **asked)[0]  # type: ignore[arg-type]
        assert [h.tokens for h in alone] == [h.tokens for h in together[i]]
        assert len(alone) == nbest and all(len(h.tokens) <= limits[i] for h in alone)
    others = sampled(model, clips, [*range(9, 18)], prefixes=prefixes, limits=limits, nbest=nbest)
    assert [h[0].tokens for h in others] != [h[0].tokens for h in together]


def test_temperature_and_top_k() -> None:
    logits = torch.tensor([0.1, 2.0, -torch.inf, 1.0, 1.9]).log_softmax(0)
    numbers = torch.from_numpy(np.random.default_rng(1).random((1, 30000)))
    rows = logits.expand(1, 30000, 5)

    def shares(**options: float) -> Tensor:
        config = DecodeConfig(search="sample", **options)  # type: ignore[arg-type]
        return torch.bincount(draw(rows, numbers, config)[0], minlength=5) / 30000

    for heat in (0.5, 1.0, 3.0):
        expected = (logits / heat).softmax(0)
        torch.testing.assert_close(shares(temperature=heat), expected, atol=0.015, rtol=0)
    two = logits.masked_fill(logits < logits[4], -torch.inf).softmax(0)
    torch.testing.assert_close(shares(top_k=2), two, atol=0.015, rtol=0)
    assert shares(top_k=1)[1] == 1.0
    assert shares(temperature=1e-6)[1] == 1.0


def test_the_ends_of_the_line() -> None:
    """The smallest and the largest number draw the first and the last token that can be drawn."""
    logits = torch.full((1, 2, VOCAB), -torch.inf)
    logits[:, :, [1, 4]] = -0.7
    numbers = torch.tensor([[0.0, np.nextafter(1.0, 0.0)]], dtype=torch.float64)
    assert draw(logits, numbers, DecodeConfig(search="sample")).tolist() == [[1, 4]]


def test_bounds_and_forbidden_tokens() -> None:
    model = ToyModel(seed=6, sharpness=0.1)
    found = sampled(model, sources(3), [1, 2, 3], limits=[5, 2, 4], nbest=40, min_length=3)
    assert not {t for h in found for one in h for t in one.tokens} & set(SYMBOLS.forbidden)
    for limit, hypotheses in zip([5, 2, 4], found, strict=True):
        assert {len(h.tokens) for h in hypotheses} == set(range(min(3, limit), limit + 1))
    model.output[:] = torch.nan
    with pytest.raises(StkError, match="not numbers"):
        sampled(model, sources(2), [1, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5}, "are of search: sample"),
        ({"search": "ctc", "seed": 2}, "are of search: sample"),
        ({"search": "sample", "temperature": 0.0}, "temperature must be above 0"),
        ({"search": "sample", "top_k": -1}, "top_k and seed at least 0"),
        ({"search": "sample", "nbest": 0}, "nbest must lie"),
        ({"search": "sample", "ctc_weight": 0.3}, "set ctc_weight to 0"),
    ],
)
def test_options_that_contradict(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodeConfig(**options)  # type: ignore[arg-type]
