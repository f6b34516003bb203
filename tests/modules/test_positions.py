"""Positions."""

import math

import pytest
import torch

from stk.errors import StkError
from stk.modules.positions import (
    LearnedPositions,
    SinusoidalPositions,
    learned_limit,
    sinusoids,
)


def test_values() -> None:
    table = sinusoids(50, 8)
    for position in (0, 1, 17, 49):
        for i in range(4):
            angle = position * 10000 ** (-i / 3)
            assert float(table[position, i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, 4 + i]) == pytest.approx(math.cos(angle), abs=1e-6)
    assert not sinusoids(3, 5)[:, 4].any()


def test_table_grows_and_is_not_saved() -> None:
    module = SinusoidalPositions(8, initial=4)
    assert torch.equal(module(3, 10), sinusoids(13, 8)[10:])
    assert not module.state_dict()


def test_learned_positions_have_a_limit() -> None:
    module = LearnedPositions(4, 5)
    assert torch.equal(module(2, 3), module.weight[3:5])
    with pytest.raises(StkError, match="6 tokens or more does not fit into the model's 5 "):
        module(2, 4)
    places = torch.tensor([[0, 4], [2, 0]])
    assert torch.equal(module.at(places), module.weight[places])
    assert module.at(places[:0]).shape == (0, 2, 4)
    with pytest.raises(StkError, match="6 tokens or more does not fit into the model's 5 "):
        module.at(places + 1)


def test_the_limit_of_a_model_is_its_shortest_table() -> None:
    tables = torch.nn.ModuleList([LearnedPositions(4, 9), LearnedPositions(4, 7)])
    assert learned_limit(tables) == 7
    assert learned_limit(SinusoidalPositions(8)) is None
