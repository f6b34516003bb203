"""Batches: bounds, padding, shuffling, purity."""

from __future__ import annotations

import numpy as np
import pytest

from stk.config.run import BatchConfig, MixingConfig
from stk.data.batching import BatchPlan, Costs, cut, faster, fewest, padding_share
from stk.data.mixing import Mixing, shares
from stk.errors import StkError


def costs_of(n: int, seed: int = 0, groups: int = 1) -> Costs:
    rng = np.random.default_rng(seed)
    frames = np.exp(rng.normal(6.0, 0.6, n)).clip(20, 3000).astype(np.int32)
    tokens = (frames / 20 + rng.integers(1, 10, n)).astype(np.int32)
    return Costs(frames, tokens, rng.integers(0, groups, n).astype(np.int32))


@pytest.mark.parametrize(
    "config",
    [
        BatchConfig(max_frames=12000),
        BatchConfig(max_frames=12000, max_tokens=700, max_examples=16, multiple=4),
        BatchConfig(max_examples=7),
        BatchConfig(max_tokens=4000),
    ],
)
def test_every_row_once_and_no_bound_passed(config):
    costs = costs_of(1000, groups=3)
    batches = BatchPlan(costs, config, seed=1, stream="a").epoch(0).batches
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    for batch in batches:
        assert len(set(costs.groups[batch].tolist())) == 1
        assert len(batch) * costs.frames[batch].max() <= (config.max_frames or 10**9)
        assert len(batch) * costs.tokens[batch].max() <= (config.max_tokens or 10**9)
        assert len(batch) <= (config.max_examples or 10**9)
    if config.multiple > 1:
        odd = [b for b in batches if len(b) > config.multiple and len(b) % config.multiple]
        assert len(odd) <= 3  # the last of each group


def test_cut_is_greedy():
    """The same cuts as a plain loop that adds rows one by one."""
    costs = costs_of(500, 3)
    order = np.argsort(costs.frames, kind="stable")
    config = BatchConfig(max_frames=8000, max_tokens=900)
    expected, current = [], []
    for row in order.tolist():
        longer = [*current, row]
        size = len(longer)
        if (
            size * max(costs.frames[longer]) > 8000 or size * max(costs.tokens[longer]) > 900
        ) and current:
            expected.append(current)
            longer = [row]
        current = longer
    expected.append(current)
    assert [batch.tolist() for batch in cut(order, costs, config)] == expected


def test_padding_is_low_and_batches_change():
    costs = costs_of(5000)
    plan = BatchPlan(costs, BatchConfig(max_frames=20000), seed=1, stream="a")
    first, second = plan.epoch(0).batches, plan.epoch(1).batches
    assert padding_share(first, costs.frames) < 0.07
    together = {tuple(sorted(batch.tolist())) for batch in first}
    assert not together & {tuple(sorted(batch.tolist())) for batch in second}
    means = [costs.frames[batch].mean() for batch in first]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3  # not in order of length


def test_plan_is_pure():
    costs = costs_of(300)
    config = BatchConfig(max_frames=6000)

    def make(**keys):
        return BatchPlan(costs, config, **{"seed": 1, "stream": "a", "speeds": (0.9, 1.1), **keys})

    late = make()
    late.epoch(7), late.epoch(3)
    fresh, again = make().epoch(5), late.epoch(5)
    assert all((a == b).all() for a, b in zip(fresh.batches, again.batches, strict=True))
    assert (fresh.speeds == again.speeds).all() and set(fresh.speeds) == {0.9, 1.1}
    for other in (make(seed=2), make(stream="b")):
        assert any(
            a.tolist() != b.tolist()
            for a, b in zip(fresh.batches, other.epoch(5).batches, strict=False)
        )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_locate_counts_epochs(world):
    costs = costs_of(200)
    plan = BatchPlan(costs, BatchConfig(max_frames=4000), seed=1, stream="a")
    step = 0
    for epoch in range(4):
        batches = len(plan.epoch(epoch).batches)
        found = []
        for _ in range(-(-batches // world)):
            for rank in range(world):
                where = plan.locate(step, rank, world)
                assert where[0] == epoch
                found.append(where[1])
            step += 1
        assert set(found) == set(range(batches)) and found[:batches] == list(range(batches))
    fresh = BatchPlan(costs, BatchConfig(max_frames=4000), seed=1, stream="a")
    assert fresh.locate(step - 1, world - 1, world) == where


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1, 1.37])
def test_frame_bounds_after_a_change_of_speed(factor):
    samples = np.arange(400, 40000, 7)
    before = 1 + (samples - 400) // 160
    changed = np.round(samples / factor).astype(int)
    after = np.where(changed < 400, 0, 1 + (changed - 400) // 160)
    upper = faster(before, factor, 2.5)
    assert (after <= upper).all() and (upper - after).max() <= 3
    lower = np.array([fewest(int(n), factor, 2.5) for n in before])
    assert (lower <= after).all() and (after - lower).max() <= 3
    assert (faster(np.array([0]), factor, 2.5) == 0).all() and fewest(0, factor, 2.5) == 0


def test_worst_holds_the_longest_and_the_most_tokens():
    costs = costs_of(400)
    plan = BatchPlan(costs, BatchConfig(max_frames=9000), seed=1, stream="a", speeds=(0.9,))
    long, wordy = plan.worst()
    assert costs.frames[long].max() == costs.frames.max()
    assert costs.tokens[wordy].max() == costs.tokens.max()


def test_shares():
    uniform = shares(MixingConfig(rule="uniform"), [3, 1], [10, 90])
    weight = shares(MixingConfig(rule="weight"), [3, 1], [10, 90])
    size = shares(MixingConfig(rule="temperature", temperature=1.0), [3, 1], [10, 90])
    even = shares(MixingConfig(rule="temperature", temperature=2.0), [3, 1], [10, 90])
    assert uniform.tolist() == [0.5, 0.5] and weight.tolist() == [0.75, 0.25]
    assert size.tolist() == [0.1, 0.9] and even == pytest.approx([0.25, 0.75])
    for weights in ([0, 0], [-1, 2]):
        with pytest.raises(StkError, match="weights"):
            shares(MixingConfig(rule="weight"), weights, [1, 1])


def test_mixing_is_pure_and_keeps_its_shares():
    mixing = Mixing(np.array([0.2, 0.0, 0.8]), seed=4)
    drawn = [mixing.at(step) for step in range(9000)]
    counts = [0, 0, 0]
    for stream, before in drawn:
        assert before == counts[stream]
        counts[stream] += 1
    assert counts[1] == 0 and counts[0] / 9000 == pytest.approx(0.2, abs=0.02)
    fresh = Mixing(np.array([0.2, 0.0, 0.8]), seed=4)
    assert fresh.at(8765) == drawn[8765] and fresh.at(3) == drawn[3]
    assert fresh.before(9000).tolist() == counts
    assert [Mixing(np.array([0.2, 0.0, 0.8]), seed=5).at(i)[0] for i in range(99)] != [
        stream for stream, _ in drawn[:99]
    ]
