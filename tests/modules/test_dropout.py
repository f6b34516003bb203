"""Dropout on the CPU."""

import pytest
import torch

from stk.modules.dropout import add_dropout, dropout, relu_dropout_


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_share_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    out = dropout(torch.ones(401, 501, dtype=dtype), p, True)
    assert out.dtype == dtype
    values = out.unique().tolist()
    assert values[0] == 0.0 and values[1:] == pytest.approx([1 / (1 - p)], rel=1e-2)
    spread = (p * (1 - p) / out.numel()) ** 0.5
    assert abs(float((out == 0).double().mean()) - p) < 5 * spread


def test_neighbours_are_independent() -> None:
    torch.manual_seed(1)
    dropped = (dropout(torch.ones(400000), 0.3, True) == 0).double().view(-1, 4)
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 100000**0.5


def test_gradient_is_the_mask() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    out = dropout(x, 0.4, True)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_added_in_one_pass_equals_the_parts(p: float) -> None:
    """Same draws, same values, same gradients."""
    x = torch.randn(30, 7, dtype=torch.float64, requires_grad=True)
    other = torch.randn(30, 7, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(30, 7, dtype=torch.float64)
    found = []
    for function in (
        lambda: add_dropout(x, other, p, True),
        lambda: x + dropout(other, p, True),
    ):
        torch.manual_seed(1)
        out = function()
        found.append((out.detach(), *torch.autograd.grad((out * scale).sum(), (x, other))))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_relu_in_place_equals_the_parts(p: float, dtype: torch.dtype) -> None:
    x = torch.randn(1000, 7).to(dtype)
    torch.manual_seed(1)
    expected = dropout(x.relu(), p, True)
    torch.manual_seed(1)
    scale = relu_dropout_(x, p)
    torch.testing.assert_close(x, expected)
    assert scale == float(dropout(torch.ones(1000, dtype=dtype), p, True).max())


def test_generator_decides() -> None:
    x = torch.ones(1001)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x, 0.5, True))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_off() -> None:
    x = torch.ones(3)
    assert dropout(x, 0.5, False) is x and dropout(x, 0.0, True) is x
    assert dropout(torch.ones(0, 3), 0.5, True).shape == (0, 3)
