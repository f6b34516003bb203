"""Straight-through Gumbel vector quantisation, from logits or from hidden states."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stk.ops import _library
from stk.ops._random import seed_pair
from stk.ops.reference.gumbel_vq import gumbel_vq_linear_reference, gumbel_vq_reference

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class GumbelVQOutput(NamedTuple):
    """What :func:`gumbel_vq` and :func:`gumbel_vq_linear` return."""

    vectors: Tensor
    """``(N, G*d)``, dtype of the codebook: the chosen rows, groups one after the other, exactly."""
    codes: Tensor
    """``(N, G)`` int64 in ``0..V-1``: the chosen code of each group."""
    mean_probs: Tensor
    """``(G, V)`` fp32 (fp64 for fp64): mean over N of the clean softmax; differentiable."""
    code_counts: Tensor
    """``(G, V)`` int64: how many of the N rows chose a code; no gradient."""


def gumbel_vq(
    logits: Tensor,
    codebook: Tensor,
    *,
    tau: float | Tensor,
    training: bool = True,
    seed: int | Tensor | None = None,
    offset: int | Tensor | None = None,
) -> GumbelVQOutput:
    """Chooses one code per row and group with Gumbel noise; gradients pass straight through.

    Forward, a row takes the codebook entry of ``argmax(logits + noise)`` (a tie takes the lowest
    index), noise being standard Gumbel. Backward, the choice counts as
    ``softmax((logits + noise) / tau)``, so the gradient reaches every logit, while the codebook
    receives the gradient of the chosen entries alone: the straight-through estimator of Jang et
    al. (2017) as wav2vec 2.0 (Baevski et al., 2020) and SemFace (Ren et al., 2021) use it. Noise,
    softmax and one-hot are never stored: the backward draws the same noise again.

    Args:
        logits: ``(N, G, V)`` fp32, fp16, bf16 or fp64; any strides. N = 0 is allowed.
        codebook: ``(G, V, d)``, any of those dtypes, not necessarily that of ``logits``; it may be
            frozen (``requires_grad=False``).
        tau: temperature, a number or a 0-dim tensor, > 0; a constant without gradient.
        training: False is arg-max without noise: then no gradient reaches the logits through
            ``vectors`` (it still does through ``mean_probs``), and ``tau`` has no effect.
        seed: number or 0-dim int64 tensor for the counter-based generator (Philox 4x32-10, Salmon
            et al., 2011). The noise of an element depends on its index in ``(N, G, V)``, ``seed``
            and ``offset`` alone, on every device. None draws from torch's default generator.
        offset: number or 0-dim int64 tensor, advanced to get other noise from one seed; None = 0.

    Returns:
        :class:`GumbelVQOutput`. ``mean_probs`` is the mean of ``softmax(logits)`` without noise or
        temperature; for perplexities over several processes, sum ``mean_probs * N`` and
        ``code_counts`` first. With N = 0 both are zeros.

    Raises:
        ValueError: a rank, size, device or ``tau`` that does not fit; on the CPU also non-finite
            logits. On CUDA they pass through (``STK_CHECK=1`` checks there too, with a
            synchronisation).
        TypeError: a dtype that does not fit.
        RuntimeError: a second-order gradient through the kernel.
    """
    _check_dtypes(logits=logits, codebook=codebook)
    if logits.dim() != 3:
        raise ValueError(f"gumbel_vq: logits: expected (N, G, V), got {tuple(logits.shape)}")
    _check_codebook(codebook, logits.shape[1], logits.shape[2])
    _check_device(logits, "logits", codebook=codebook)
    tau = _tau(tau)
    pair = seed_pair(seed, offset, logits.device) if training else _NO_SEED
    kernels = _kernels_on(logits, codebook)
    if _library.CHECK or (logits.device.type == "cpu" and not kernels):
        _check_values(logits=logits, tau=tau)
    if kernels:
        out = torch.ops.stk.gumbel_vq(logits, codebook, tau, *pair, training=training)
        return GumbelVQOutput(*out[:4])
    with torch.autocast(logits.device.type, enabled=False):
        out = gumbel_vq_reference(logits, codebook, tau, *pair, training=training)
    return GumbelVQOutput(*out)


def gumbel_vq_linear(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    codebook: Tensor,
    *,
    tau: float | Tensor,
    training: bool = True,
    seed: int | Tensor | None = None,
    offset: int | Tensor | None = None,
) -> GumbelVQOutput:
    """:func:`gumbel_vq` of ``hidden @ weight.T + bias``, whose logits are never stored whole.

    Rows are processed in chunks of bounded size, forward and backward (which computes the logits
    again), so that 102,400 codes of width 1,024 (SemFace, Ren et al., 2021) fit beside a training
    step. Logits are fp32 whatever the dtype of the operands (fp64 for fp64).

    Args:
        hidden: ``(N, D)`` fp32, fp16, bf16 or fp64. Under autocast ``hidden``, ``weight`` and
            ``bias`` are cast to the autocast dtype first.
        weight: ``(G*V, D)``, dtype of ``hidden``; the rows of a group follow one another.
        bias: ``(G*V,)``, dtype of ``hidden``.
        codebook: ``(G, V, d)``; fixes G and V.
        tau: as for :func:`gumbel_vq`, and so are ``training``, ``seed`` and ``offset``: the same
            seed gives the noise that ``gumbel_vq`` draws for the whole logits.
        training: see ``tau``.
        seed: see ``tau``.
        offset: see ``tau``.

    Returns:
        :class:`GumbelVQOutput`.

    Raises:
        ValueError: as for :func:`gumbel_vq`.
        TypeError: a dtype that does not fit, or differs between ``hidden``, ``weight``, ``bias``.
        RuntimeError: a second-order gradient through the kernel.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and hidden.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(kind)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), bias.to(dtype)
    _check_dtypes(hidden=hidden, weight=weight, bias=bias, codebook=codebook)
    _check_linear(hidden, weight, bias, codebook)
    tau = _tau(tau)
    pair = seed_pair(seed, offset, hidden.device) if training else _NO_SEED
    kernels = _kernels_on(hidden, codebook)
    if _library.CHECK or (kind == "cpu" and not kernels):
        _check_values(hidden=hidden, weight=weight, bias=bias, tau=tau)
    arguments = (hidden, weight, bias, codebook, tau, *pair)
    if kernels:
        out = torch.ops.stk.gumbel_vq_linear(*arguments, training=training)
        return GumbelVQOutput(*out[:4])
    with torch.autocast(kind, enabled=False):
        return GumbelVQOutput(*gumbel_vq_linear_reference(*arguments, training=training))


_NO_SEED = (torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64))


def _tau(tau: float | Tensor) -> Tensor:
    """``tau`` as a 0-dim fp32 tensor; one on a device stays there, so that nothing waits for it."""
    if isinstance(tau, Tensor):
        if tau.dim() != 0:
            raise ValueError(
                f"gumbel_vq: tau: expected a number or a 0-dim tensor, got {tuple(tau.shape)}"
            )
        return tau.detach().to(torch.float32)
    # A product, since a traced graph keeps a number that multiplies a tensor variable.
    return torch.ones((), dtype=torch.float32) * tau


def _kernels_on(like: Tensor, codebook: Tensor) -> bool:
    """On CUDA, fp64 takes the reference."""
    wide = torch.float64 in (like.dtype, codebook.dtype)
    return _library.kernels_on(like.device) and not (wide and like.is_cuda)


def _check_dtypes(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise TypeError(
                f"gumbel_vq: {name}: expected fp32, fp16, bf16 or fp64, got {tensor.dtype}"
            )


def _check_codebook(codebook: Tensor, groups: int, size: int) -> None:
    if codebook.dim() != 3 or codebook.shape[:2] != (groups, size):
        raise ValueError(
            f"gumbel_vq: codebook: expected ({groups}, {size}, d) as logits have it, "
            f"got {tuple(codebook.shape)}"
        )
    if codebook.numel() == 0:
        raise ValueError(
            f"gumbel_vq: codebook: expected no empty dimension, got {tuple(codebook.shape)}"
        )


def _check_linear(hidden: Tensor, weight: Tensor, bias: Tensor, codebook: Tensor) -> None:
    if hidden.dim() != 2:
        raise ValueError(f"gumbel_vq: hidden: expected (N, D), got {tuple(hidden.shape)}")
    if codebook.dim() != 3 or codebook.numel() == 0:
        raise ValueError(
            f"gumbel_vq: codebook: expected (G, V, d) with no empty dimension, "
            f"got {tuple(codebook.shape)}"
        )
    rows, width = codebook.shape[0] * codebook.shape[1], hidden.shape[1]
    if weight.shape != (rows, width):
        raise ValueError(
            f"gumbel_vq: weight: expected ({rows}, {width}), (G*V, D) of codebook and hidden, "
            f"got {tuple(weight.shape)}"
        )
    if bias.shape != (rows,):
        raise ValueError(
            f"gumbel_vq: bias: expected ({rows},), G*V of codebook, got {tuple(bias.shape)}"
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor.dtype != hidden.dtype:
            raise TypeError(
                f"gumbel_vq: {name}: expected {hidden.dtype} as hidden has it, got {tensor.dtype}"
            )
    _check_device(hidden, "hidden", weight=weight, bias=bias, codebook=codebook)


def _check_device(like: Tensor, like_name: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.device != like.device:
            raise ValueError(f"gumbel_vq: {name}: on {tensor.device}, {like_name} on {like.device}")


def _check_values(tau: Tensor, **tensors: Tensor) -> None:
    """Checks that need the numbers; a graph being traced has none."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    value = float(tau)
    if not (value > 0.0 and math.isfinite(value)):
        raise ValueError(f"gumbel_vq: tau: expected a finite number > 0, got {value}")
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"gumbel_vq: {name}: expected finite values, got some that are not")


# The operators return a fifth tensor, stats (N, G, 2): log-sum-exp of the clean logits and of the
# noisy ones divided by tau, from which the backward rebuilds both softmaxes without another pass.


def _fake_outputs(like: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count, (groups, size, width) = like.shape[0], codebook.shape
    work = torch.float64 if like.dtype == torch.float64 else torch.float32
    return (
        codebook.new_empty((count, groups * width)),
        like.new_empty((count, groups), dtype=torch.int64),
        like.new_empty((groups, size), dtype=work),
        like.new_empty((groups, size), dtype=torch.int64),
        like.new_empty((count, groups, 2), dtype=work),
    )


@_library.register_fake("gumbel_vq")
def _fake(
    logits: Tensor, codebook: Tensor, tau: Tensor, seed: Tensor, offset: Tensor, *, training: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _fake_outputs(logits, codebook)


@_library.register_fake("gumbel_vq_linear")
def _fake_linear(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    codebook: Tensor,
    tau: Tensor,
    seed: Tensor,
    offset: Tensor,
    *,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _fake_outputs(hidden, codebook)


def _wanted(tensor: Tensor, want: bool) -> Tensor:
    return tensor.new_empty(tensor.shape) if want else tensor.new_empty(0)


@_library.register_fake("gumbel_vq_backward")
def _fake_backward(
    grad_vectors: Tensor | None,
    grad_probs: Tensor | None,
    logits: Tensor,
    codebook: Tensor,
    codes: Tensor,
    stats: Tensor,
    tau: Tensor,
    seed: Tensor,
    offset: Tensor,
    *,
    training: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor]:
    return _wanted(logits, wanted[0]), _wanted(codebook, wanted[1])


@_library.register_fake("gumbel_vq_linear_backward")
def _fake_linear_backward(
    grad_vectors: Tensor | None,
    grad_probs: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    codebook: Tensor,
    codes: Tensor,
    stats: Tensor,
    tau: Tensor,
    seed: Tensor,
    offset: Tensor,
    *,
    training: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors = zip((hidden, weight, bias, codebook), wanted, strict=True)
    first, second, third, fourth = (_wanted(tensor, want) for tensor, want in tensors)
    return first, second, third, fourth


def _setup_context(ctx: Any, inputs: tuple, keyword_only_inputs: dict, output: tuple) -> None:
    vectors, codes, mean_probs, counts, stats = output
    ctx.training = keyword_only_inputs["training"]
    ctx.inputs = len(inputs) - 3
    ctx.save_for_backward(*inputs, codes, stats)
    ctx.mark_non_differentiable(codes, counts, stats)
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, grad_vectors: Tensor | None, _codes: None, grad_probs: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    count = ctx.inputs
    none: tuple[None, ...] = (None,) * (count + 3)
    if grad_vectors is None and grad_probs is None:
        return none
    *inputs, tau, seed, offset, codes, stats = ctx.saved_tensors
    # The codebook is reached through the chosen vectors alone.
    wanted = list(ctx.needs_input_grad[:count])
    wanted[-1] = wanted[-1] and grad_vectors is not None
    operator = (
        torch.ops.stk.gumbel_vq_backward if count == 2 else torch.ops.stk.gumbel_vq_linear_backward
    )
    grads = operator(
        *(grad_vectors, grad_probs, *inputs, codes, stats, tau, seed, offset),
        training=ctx.training,
        wanted=wanted,
    )
    return (*(grad if want else None for grad, want in zip(grads, wanted, strict=True)), *none[:3])


for _name in ("gumbel_vq", "gumbel_vq_linear"):
    _library.register_autograd(_name, _backward, _setup_context)
    _library.forbid_gradient(f"{_name}_backward", "a second-order gradient is not available")
