"""pack_prefix: scattered real positions served by prefix attention."""

from __future__ import annotations

import pytest
import torch

from stk.ops import attention, pack_prefix, unpack_prefix


def scattered(batch: int, count: int) -> torch.Tensor:
    real = torch.rand(batch, count, generator=torch.Generator().manual_seed(0)) < 0.6
    real[0], real[1] = True, False
    return real


def test_real_positions_come_first_in_their_order() -> None:
    real = scattered(4, 13)
    states = torch.arange(4 * 13 * 2).view(4, 13, 2)
    packed = pack_prefix(states, real)
    assert torch.equal(packed.lengths, real.sum(1))
    for row in range(4):
        expected = torch.cat((states[row][real[row]], states[row][~real[row]]))
        assert torch.equal(packed.states[row], expected)
        assert torch.equal(packed.states[row], states[row][packed.order[row]])


@pytest.mark.parametrize("tail", [(), (3,), (3, 2)])
def test_unpack_is_the_inverse(tail: tuple[int, ...]) -> None:
    states = torch.randn(4, 9, *tail)
    packed = pack_prefix(states, scattered(4, 9))
    assert torch.equal(unpack_prefix(packed.states, packed.order), states)


def test_attention_over_packed_states_is_masked_attention() -> None:
    real = scattered(3, 11)
    states = torch.randn(3, 11, 8, dtype=torch.float64, requires_grad=True)
    packed = pack_prefix(states, real)
    heads = packed.states[:, None]
    mixed = attention(heads, heads, heads, packed.lengths)[:, 0]
    result = unpack_prefix(mixed, packed.order)
    bias = torch.zeros(3, 1, 11, dtype=torch.float64).masked_fill(~real[:, None], float("-inf"))
    rows = [0, 2]  # row 1 has nothing to attend to
    scores = states[rows] @ states[rows].transpose(1, 2) / 8**0.5 + bias[rows]
    expected = torch.softmax(scores, dim=-1) @ states[rows]
    torch.testing.assert_close(result[rows], expected)
    assert torch.equal(result[1], torch.zeros_like(result[1]))
    grads = [torch.autograd.grad(x[..., 0].sum(), states)[0] for x in (result[rows], expected)]
    torch.testing.assert_close(grads[0], grads[1])


def test_empty_sizes() -> None:
    for batch, count in ((0, 4), (2, 0)):
        packed = pack_prefix(torch.zeros(batch, count, 3), torch.zeros(batch, count).bool())
        assert packed.states.shape == (batch, count, 3)
        assert torch.equal(packed.lengths, torch.zeros(batch, dtype=torch.int64))


@pytest.mark.parametrize("real", [torch.ones(2, 5), torch.ones(2, 4).bool(), torch.ones(5).bool()])
def test_bad_mask(real: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"real: expected boolean of shape \(2, 5\)"):
        pack_prefix(torch.zeros(2, 5, 3), real)
