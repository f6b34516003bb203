"""Grouped convolution as matrix products, beside PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stk.modules.grouped_convolution import TAPS, grouped_convolution


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    half = weight.shape[2] // 2
    out = F.conv1d(x.transpose(1, 2), weight, bias, padding=half, groups=groups)
    return out[:, :, : x.shape[1]].transpose(1, 2)


@pytest.mark.parametrize("kernel", [1, 2, 7, TAPS, TAPS + 1, 5 * TAPS, 5 * TAPS + 3])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 9), (2, 40)])
def test_it_is_a_convolution(kernel: int, batch: int, time: int) -> None:
    torch.manual_seed(kernel)
    operands = [torch.randn(*shape) for shape in ((batch, time, 6), (9, 2, kernel), (9,))]
    x, weight, bias = (operand.double().requires_grad_() for operand in operands)
    out, expected = grouped_convolution(x, weight, bias, 3), plain(x, weight, bias, 3)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    mine = torch.autograd.grad(out, (x, weight, bias), grad)
    torch.testing.assert_close(mine, torch.autograd.grad(expected, (x, weight, bias), grad))


def test_views_need_not_be_contiguous_and_only_wanted_gradients_are_made() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 9).permute(1, 2, 0)[:, 1:]
    weight, bias = torch.randn(4, 2, 20, requires_grad=True), torch.randn(4)
    out = grouped_convolution(x, weight, bias, 2)
    torch.testing.assert_close(out, plain(x, weight, bias, 2))
    out.sum().backward()
    assert weight.grad is not None and weight.grad.shape == weight.shape
    hidden = x.clone().requires_grad_()
    grouped_convolution(hidden, weight.detach(), bias, 2).sum().backward()
    assert hidden.grad is not None


def test_half_precision_is_left_to_pytorch() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 4), torch.randn(4, 2, 20), torch.randn(4)
    expected = plain(x, weight, bias, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = grouped_convolution(x, weight, bias, 2)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.05)
    half = grouped_convolution(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), 2)
    torch.testing.assert_close(half.float(), expected, atol=0.2, rtol=0.1)
