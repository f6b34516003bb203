"""Products as wide as a vocabulary."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stk.modules.linear import WIDE, wide_product


@pytest.mark.parametrize("size", [10, WIDE, WIDE + 100])
def test_it_is_a_linear_layer(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    weight = torch.randn(size, 6, generator=generator)
    for shape in ((4, 6), (2, 3, 6), (0, 6), (6,)):
        x = torch.randn(shape, generator=generator)
        with torch.inference_mode():
            found = wide_product(x, weight)
        torch.testing.assert_close(found, F.linear(x, weight))


def test_gradients_pass() -> None:
    weight = torch.randn(WIDE, 3, requires_grad=True)
    wide_product(torch.randn(2, 3), weight).sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0
