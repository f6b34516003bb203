"""Dropout's factors beside the counter-based generator in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stk.ops import _random
from stk.ops._dropout import LEVELS, dropout_factors, relu_dropout_
from stk.ops._library import BUILT

pytestmark = pytest.mark.skipif(not BUILT, reason="stk was installed without compiled kernels")


def reference(count: int, dropped: int, seed: int, offset: int) -> Tensor:
    """Halves of words in the order of the kernel's blocks, compared and scaled."""
    blocks = -(-count // 64)
    pair = _random.seed_pair(seed, offset, torch.device("cpu"))
    words = _random.words(blocks * 32, *pair, torch.device("cpu")).view(blocks, 8, 4)
    halves = torch.stack((words & 0xFFFF, words >> 16), -1)  # block, lane, word, half
    level = halves.permute(0, 2, 3, 1).reshape(-1)[:count]
    return (level >= dropped) * (LEVELS / (LEVELS - dropped))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000, 64 * 600 + 7])
def test_bits_are_the_generators(count: int) -> None:
    factors = dropout_factors(torch.empty(count), 20_000, seed=-5, offset=1 << 40)
    torch.testing.assert_close(factors, reference(count, 20_000, -5, 1 << 40).float())


def test_shape_dtype_and_threads() -> None:
    like = torch.empty(2, 3, 20_000, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    made = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made.append(dropout_factors(like, 30_000, seed=1))
    torch.set_num_threads(before)
    assert made[0].shape == like.shape and made[0].dtype == torch.float32
    assert torch.equal(*made)
    assert made[0].mean().item() == pytest.approx(1.0, abs=0.01)


def test_extremes_and_range() -> None:
    like = torch.empty(100_000)
    assert torch.equal(dropout_factors(like, 0), torch.ones(100_000))
    assert (dropout_factors(like, LEVELS - 1, seed=2) > 0).float().mean() < 1e-3
    for dropped in (-1, LEVELS):
        with pytest.raises(ValueError, match="dropped"):
            dropout_factors(like, dropped)


def test_the_seed_is_torchs() -> None:
    like = torch.empty(1000)
    torch.manual_seed(7)
    first, second = dropout_factors(like, 30_000), dropout_factors(like, 30_000)
    torch.manual_seed(7)
    assert torch.equal(dropout_factors(like, 30_000), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 64 * 600 + 7])
def test_relu_in_place_is_relu_times_the_factors(count: int) -> None:
    x = torch.randn(count)
    expected = x.relu() * dropout_factors(x, 20_000, seed=3, offset=5)
    assert relu_dropout_(x, 20_000, seed=3, offset=5) is x
    assert torch.equal(x, expected)


def test_relu_in_place_makes_zeros_of_negative_infinity() -> None:
    x = torch.full((1000,), -float("inf"))
    assert not bool(relu_dropout_(x, 20_000, seed=1).count_nonzero())


def test_relu_in_place_keeps_what_is_not_a_number() -> None:
    x = torch.full((1000,), float("nan"))
    assert bool(relu_dropout_(x, 20_000, seed=1).isnan().all())


def test_relu_in_place_takes_contiguous_floats() -> None:
    for x in (torch.ones(4, 6).t(), torch.ones(4, dtype=torch.float64)):
        with pytest.raises(ValueError, match="contiguous Float"):
            relu_dropout_(x, 1)
    with pytest.raises(ValueError, match="dropped"):
        relu_dropout_(torch.ones(3), LEVELS)
