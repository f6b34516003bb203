"""The feed-forward block's fused form beside its parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stk.modules.dropout import dropout
from stk.modules.feed_forward import relu_feed_forward

Layers = tuple[nn.Linear, nn.Linear]


def made(dtype: torch.dtype) -> Layers:
    torch.manual_seed(2)
    return nn.Linear(5, 20, dtype=dtype), nn.Linear(20, 3, dtype=dtype)


@pytest.fixture
def layers() -> Layers:
    return made(torch.float64)


def parts(x: Tensor, inner: nn.Linear, outer: nn.Linear, p: float) -> Tensor:
    out: Tensor = outer(dropout(inner(x).relu(), p, p > 0.0))
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 5), (0, 5), (3, 0, 5), (50, 5)])
def test_values_and_gradients_are_those_of_the_parts(
    shape: tuple[int, ...], p: float, dtype: torch.dtype
) -> None:
    layers = made(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    wanted = [x, *layers[0].parameters(), *layers[1].parameters()]
    found = []
    for form in (relu_feed_forward, parts):
        torch.manual_seed(5)
        out = form(x, *layers, p)
        found.append((out, *torch.autograd.grad((out * out.detach().sin()).sum(), wanted)))
    assert found[0][0].shape == (*shape[:-1], 3)
    if dtype == torch.bfloat16:  # the parts round once more, after the product with the scale
        torch.testing.assert_close(*found, rtol=0.016, atol=0.004)
    else:
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_second_backward_and_checkpoints_give_the_same(reentrant: bool) -> None:
    layers, x = made(torch.float32), torch.randn(9, 5, requires_grad=True)
    found = []
    for again in (False, False, True):
        torch.manual_seed(5)
        if again:
            out = checkpoint(relu_feed_forward, x, *layers, 0.3, use_reentrant=reentrant)
        else:
            out = relu_feed_forward(x, *layers, 0.3)
        for _ in range(1 if again else 2):
            x.grad = None
            out.square().sum().backward(retain_graph=not again)
        found.append(x.grad)
    torch.testing.assert_close(found[1:], [found[0]] * 2, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("frozen", ["x", "inner", "outer", "all but x", "all but outer"])
def test_frozen_parts_get_no_gradient(layers: Layers, frozen: str) -> None:
    inner, outer = layers
    x = torch.randn(4, 5, dtype=torch.float64)
    learnt = {
        "x": (False, True, True),
        "inner": (True, False, True),
        "outer": (True, True, False),
        "all but x": (True, False, False),
        "all but outer": (False, False, True),
    }[frozen]
    x.requires_grad_(learnt[0])
    inner.requires_grad_(learnt[1])
    outer.requires_grad_(learnt[2])
    found = []
    for form in (relu_feed_forward, parts):
        wanted = [t for t in (x, *inner.parameters(), *outer.parameters()) if t.requires_grad]
        found.append(torch.autograd.grad(form(x, inner, outer, 0.0).sum(), wanted))
    torch.testing.assert_close(*found)


def test_without_gradients(layers: Layers) -> None:
    x = torch.randn(4, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(relu_feed_forward(x, *layers, 0.0), parts(x, *layers, 0.0))


def test_the_input_may_have_gaps(layers: Layers) -> None:
    x = torch.randn(5, 4, 2, dtype=torch.float64).permute(2, 1, 0).requires_grad_()
    torch.testing.assert_close(relu_feed_forward(x, *layers, 0.0), parts(x, *layers, 0.0))


def test_autocast_computes_in_half_precision() -> None:
    inner, outer = nn.Linear(5, 20), nn.Linear(20, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = relu_feed_forward(torch.randn(4, 5), inner, outer, 0.1)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert inner.weight.grad is not None and inner.weight.grad.dtype == torch.float32


def test_a_gradient_of_the_gradient_is_an_error(layers: Layers) -> None:
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(
        relu_feed_forward(x, *layers, 0.0).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
