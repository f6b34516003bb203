"""The shrink layer trims to the longest clip and leaves the rest to ctc_shrink."""

import pytest
import torch

from stk.modules.shrink import CtcShrink
from stk.ops import ctc_shrink


@pytest.mark.parametrize("reduce", ["first", "mean", "weighted"])
def test_trims_to_the_longest_new_length(reduce) -> None:
    states = torch.randn(2, 7, 3, requires_grad=True)
    labels = torch.tensor([[1, 1, 0, 1, 2, 2, 2], [0, 4, 4, 4, 4, 0, 0]])
    scores = 9.0 * torch.nn.functional.one_hot(labels, 5)
    lengths = torch.tensor([7, 6])
    out = CtcShrink(reduce=reduce)(states, scores, lengths)
    assert out.states.shape == (2, 3, 3) and out.lengths.tolist() == [3, 1]
    full = ctc_shrink(states, scores, lengths, reduce=reduce)
    assert torch.equal(out.states, full.states[:, :3])
    assert torch.equal(out.segments, full.segments)
    out.states.sum().backward()
    assert bool((states.grad[1, 6] == 0).all()) and states.grad.abs().sum() > 0


def test_options_and_empty_batches() -> None:
    labels = torch.tensor([[3, 3, 1, 3]])
    merged = CtcShrink(blank=3, blanks="merge", reduce="mean")
    assert merged(torch.randn(1, 4, 2), labels, torch.tensor([4])).lengths.tolist() == [3]
    assert "blank=3" in repr(merged)
    empty = merged(torch.zeros(0, 4, 2), labels[:0], torch.zeros(0, dtype=torch.int64))
    assert empty.states.shape == (0, 0, 2)
    silent = CtcShrink()(torch.randn(1, 4, 2), torch.zeros(1, 4, 6), torch.tensor([4]))
    assert silent.states.shape == (1, 1, 2)  # all blank: one frame stays, so attention has a key
