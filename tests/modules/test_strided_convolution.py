"""Convolution as products over strided views, beside PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stk.modules.strided_convolution import patches, strided_convolution


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(
    ("time", "kernel", "stride"),
    [(31, 3, 2), (32, 3, 2), (12, 2, 2), (40, 10, 5), (9, 2, 3), (13, 5, 2), (3, 3, 2), (7, 3, 1)],
)
def test_it_is_a_convolution(time: int, kernel: int, stride: int, gelu: bool, gated: bool) -> None:
    torch.manual_seed(time)
    operands = [torch.randn(*shape) for shape in ((3, time, 4), (6, 4, kernel), (6,))]
    x, weight, bias = (operand.double().requires_grad_() for operand in operands)
    out = strided_convolution(x, weight, bias, stride, gelu=gelu, gated=gated)
    entered = F.gelu(x) if gelu else x
    expected = F.conv1d(entered.transpose(1, 2), weight, bias, stride).transpose(1, 2)
    expected = F.glu(expected, 2) if gated else expected
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    mine = torch.autograd.grad(out, (x, weight, bias), grad)
    theirs = torch.autograd.grad(expected, (x, weight, bias), grad)
    torch.testing.assert_close(mine, theirs)


def test_views_need_not_be_contiguous_and_only_wanted_gradients_are_made() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 9).permute(1, 2, 0)[:, 1:]
    weight = torch.randn(3, 5, 3, requires_grad=True)
    out = strided_convolution(x, weight, None, 2)
    torch.testing.assert_close(out, F.conv1d(x.transpose(1, 2), weight, None, 2).transpose(1, 2))
    out.sum().backward()
    assert weight.grad is not None and x.grad is None


def test_no_rows_have_no_gradient() -> None:
    x, weight = torch.randn(0, 9, 4), torch.randn(6, 4, 3, requires_grad=True)
    out = strided_convolution(x, weight, None, 2, gated=True)
    assert out.shape == (0, 4, 3)
    out.sum().backward()
    assert weight.grad is not None and not bool(weight.grad.count_nonzero())


def test_autocast_convolves_in_half_precision() -> None:
    x, weight = torch.randn(1, 9, 4), torch.randn(3, 4, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = strided_convolution(x, weight, None, 2)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32


def test_patches() -> None:
    samples = torch.arange(12.0)[None]
    assert patches(samples, 4, 3).tolist() == [[[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]]
