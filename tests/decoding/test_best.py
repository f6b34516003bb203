"""The best scores by way of blocks, against PyTorch's topk."""

from __future__ import annotations

import pytest
import torch

from stk.decoding.best import BLOCK, best_of


@pytest.mark.parametrize("size", [7, 40 * BLOCK - 1, 40 * BLOCK, 41 * BLOCK + 50])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_it_is_topk(size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(size + count)
    scores = torch.randn(3, 4, size, generator=generator)
    scores[0, 0, -1], scores[0, 1, 0] = 9.0, 9.0
    scores[1] = -torch.inf
    scores[1, :, 5] = 0.5
    values, places = best_of(scores, count)
    expected = scores.topk(count, dim=-1)
    assert torch.equal(values, expected.values)
    finite = values > -torch.inf
    assert torch.equal(places[finite], expected.indices[finite])
    assert torch.equal(scores.gather(-1, places), values)


def test_what_is_not_a_number_stays_visible() -> None:
    scores = torch.full((1, 1, 60 * BLOCK), torch.nan)
    assert best_of(scores, 3)[0].isnan().all()
