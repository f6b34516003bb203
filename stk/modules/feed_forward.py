"""Two linear layers with relu and dropout between (Vaswani et al., 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stk.modules.dropout import dropout, relu_dropout_


def relu_feed_forward(x: Tensor, inner: nn.Linear, outer: nn.Linear, p: float) -> Tensor:
    """``outer(dropout(relu(inner(x))))``, ``(..., D)`` to ``(..., D)``.

    On the CPU relu and dropout work in place on the inner layer's output, forward and backward:
    nothing as wide as that layer is written twice, and it is all that is kept for the gradient.

    On the CPU, with gradients, the layers' weights are used and not the layers themselves: their
    forward hooks do not run.

    Args:
        x: of the layers' dtype, or any that autocast takes.
        inner: with a bias.
        outer: with a bias.
        p: probability in [0, 1) of dropping an inner value; 0 where the model is not trained.

    Raises:
        RuntimeError: a gradient of the gradient is asked for.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or recorded:
        return outer(dropout(F.relu(inner(x)), p, p > 0.0))
    if not torch.is_grad_enabled() and p == 0.0:
        return outer(inner(x).relu_())
    operands: tuple[Tensor, ...] = (x, inner.weight, inner.bias, outer.weight, outer.bias)
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        operands = tuple(operand.to(dtype) for operand in operands)
    out: Tensor = _ReluFeedForward.apply(*operands, p)
    return out


class _ReluFeedForward(torch.autograd.Function):
    """What is above zero between the layers was both positive and kept, so no mask is saved."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        inner: Tensor,
        inner_bias: Tensor,
        outer: Tensor,
        outer_bias: Tensor,
        p: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        hidden = torch.addmm(inner_bias, rows, inner.t())
        ctx.scale = relu_dropout_(hidden, p)
        ctx.save_for_backward(rows, hidden, inner, outer)
        return torch.addmm(outer_bias, hidden, outer.t()).view(*x.shape[:-1], len(outer))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, inner, outer = ctx.saved_tensors
        x_wanted, inner_wanted, inner_bias_wanted, outer_wanted, outer_bias_wanted, _ = (
            ctx.needs_input_grad
        )
        shape, grad = grad.shape, grad.reshape(-1, grad.shape[-1])
        outer_grad = grad.t() @ hidden if outer_wanted else None
        outer_bias_grad = grad.sum(0) if outer_bias_wanted else None
        if not (x_wanted or inner_wanted or inner_bias_wanted):
            return None, None, None, outer_grad, outer_bias_grad, None
        # The product multiplies by dropout's scale; what it is added to is not read.
        inside = torch.addmm(grad.new_empty(()), grad, outer, beta=0, alpha=ctx.scale)
        torch.ops.aten.threshold_backward.grad_input(inside, hidden, 0.0, grad_input=inside)
        x_grad = (inside @ inner).view(*shape[:-1], inner.shape[1]) if x_wanted else None
        inner_grad = inside.t() @ rows if inner_wanted else None
        inner_bias_grad = inside.sum(0) if inner_bias_wanted else None
        return x_grad, inner_grad, inner_bias_grad, outer_grad, outer_bias_grad, None
