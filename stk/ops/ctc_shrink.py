"""CTC-guided shrinking: one vector per run of equal CTC labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from stk.ops import _library
from stk.ops.reference.ctc_shrink import ctc_shrink_reference

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_LABELS = (torch.int64, torch.int32)
_REDUCE = ("first", "mean", "weighted")
_BLANKS = ("drop", "merge")


class CtcShrinkOutput(NamedTuple):
    """What :func:`ctc_shrink` returns."""

    states: Tensor
    """``(B, T, D)``, dtype of the input states: one vector per segment, then zeros."""
    lengths: Tensor
    """``(B,)`` int64: the number of segments of each clip."""
    segments: Tensor
    """``(B, T)`` int64: which segment a frame went into, -1 for dropped and padded frames."""


def ctc_shrink(
    states: Tensor,
    scores_or_labels: Tensor,
    lengths: Tensor,
    *,
    blank: int = 0,
    reduce: str = "mean",
    blanks: str = "drop",
) -> CtcShrinkOutput:
    """Reduces every run of frames with the same CTC label to one vector.

    The label of a frame is the arg-max of its scores (a tie takes the lowest index); a run is a
    longest stretch of neighbouring real frames with one label, so token-blank-token is two runs of
    that token. This is the shrinking of Dong et al. (2021, COSTT: ``reduce="first"``), the
    averaging of Gaido et al. (2021: ``"mean"`` and ``"weighted"``) and, with ``blanks="merge"``,
    the compression that keeps a vector for silence.

    The output keeps the width ``T``, so nothing waits for the device;
    :class:`stk.modules.shrink.CtcShrink` trims it to the longest new length.

    Args:
        states: ``(B, T, D)`` encoder states, fp32, fp16, bf16 or fp64; any strides.
        scores_or_labels: ``(B, T, V)`` CTC logits (floating, any of those dtypes, not necessarily
            that of ``states``), or ``(B, T)`` labels, int64 or int32.
        lengths: ``(B,)`` int64, real frames per clip, in ``0..T``. What stands in padded frames is
            never read.
        blank: label of the CTC blank; with scores in ``0..V-1``, with labels any integer.
        reduce: ``"first"`` takes a run's first frame; ``"mean"`` averages the run; ``"weighted"``
            is ``sum p_t h_t / sum p_t`` with ``p_t`` the softmax probability of the run's label at
            ``t``, and needs scores. Gradients reach the states, and for ``"weighted"`` the scores.
        blanks: ``"drop"`` removes blank runs; ``"merge"`` keeps a blank run as a segment. A clip
            with ``lengths > 0`` that is blank throughout keeps, under ``"drop"``, the one frame
            whose best non-blank score is the highest (first such frame; with labels its frame 0).

    Returns:
        :class:`CtcShrinkOutput`. Sums are accumulated in fp32 (fp64 for fp64 states, which on
        CUDA take the reference).

    Raises:
        ValueError: a rank, size, device or option that does not fit; on the CPU also lengths out of
            range and real frames with non-finite scores. On CUDA lengths are clamped and
            non-finite values pass through (``STK_CHECK=1`` checks them there too, with a
            synchronisation).
        TypeError: a dtype that does not fit.
        RuntimeError: a second-order gradient through the kernel.
    """
    _check_shapes(states, scores_or_labels, lengths, blank, reduce, blanks)
    wide = torch.float64 in (states.dtype, scores_or_labels.dtype)
    kernels = _library.kernels_on(states.device) and not (wide and states.is_cuda)
    # The CPU kernel checks the values as it reads them.
    if _library.CHECK or (states.device.type == "cpu" and not kernels):
        _check_values(scores_or_labels, lengths, states.shape[1])
    if kernels:
        out = torch.ops.stk.ctc_shrink(
            states, scores_or_labels, lengths, blank=blank, reduce=reduce, blanks=blanks
        )
        return CtcShrinkOutput(*out[:3])
    return CtcShrinkOutput(
        *ctc_shrink_reference(
            states, scores_or_labels, lengths, blank=blank, reduce=reduce, blanks=blanks
        )
    )


def _check_shapes(
    states: Tensor, given: Tensor, lengths: Tensor, blank: int, reduce: str, blanks: str
) -> None:
    scores = given.is_floating_point()
    if states.dtype not in _FLOATS:
        raise TypeError(
            f"ctc_shrink: states: expected fp32, fp16, bf16 or fp64, got {states.dtype}"
        )
    if given.dtype not in _FLOATS + _LABELS:
        raise TypeError(
            "ctc_shrink: scores_or_labels: expected floating scores or int64 or int32 labels, "
            f"got {given.dtype}"
        )
    if lengths.dtype != torch.int64:
        raise TypeError(f"ctc_shrink: lengths: expected int64, got {lengths.dtype}")
    if states.dim() != 3:
        raise ValueError(f"ctc_shrink: states: expected (B, T, D), got {tuple(states.shape)}")
    batch, frames = states.shape[:2]
    if given.dim() != (3 if scores else 2) or given.shape[:2] != (batch, frames):
        expected = f"({batch}, {frames}, V)" if scores else f"({batch}, {frames})"
        raise ValueError(
            f"ctc_shrink: scores_or_labels: expected {expected} as states have it, "
            f"got {tuple(given.shape)}"
        )
    if lengths.shape != (batch,):
        raise ValueError(f"ctc_shrink: lengths: expected ({batch},), got {tuple(lengths.shape)}")
    for name, tensor in (("scores_or_labels", given), ("lengths", lengths)):
        if tensor.device != states.device:
            raise ValueError(f"ctc_shrink: {name}: on {tensor.device}, states on {states.device}")
    if reduce not in _REDUCE:
        raise ValueError(
            f"ctc_shrink: reduce: expected one of {', '.join(_REDUCE)}, got {reduce!r}"
        )
    if blanks not in _BLANKS:
        raise ValueError(
            f"ctc_shrink: blanks: expected one of {', '.join(_BLANKS)}, got {blanks!r}"
        )
    if reduce == "weighted" and not scores:
        raise ValueError(
            "ctc_shrink: scores_or_labels: reduce='weighted' needs scores (B, T, V), got labels"
        )
    if scores and not 0 <= blank < given.shape[2]:
        raise ValueError(f"ctc_shrink: blank: expected 0..{given.shape[2] - 1}, got {blank}")


def _check_values(given: Tensor, lengths: Tensor, frames: int) -> None:
    """Checks that need the numbers; a graph being traced has none."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or lengths.numel() == 0:
        return
    if bool(((lengths < 0) | (lengths > frames)).any()):
        raise ValueError(
            f"ctc_shrink: lengths: expected values in 0..{frames}, got {lengths.tolist()}"
        )
    if given.is_floating_point():
        real = torch.arange(frames, device=given.device)[None, :] < lengths[:, None]
        if not bool((given.isfinite().all(-1) | ~real).all()):
            raise ValueError("ctc_shrink: scores_or_labels: a real frame has a non-finite score")


@_library.register_fake("ctc_shrink")
def _fake(
    states: Tensor, given: Tensor, lengths: Tensor, *, blank: int, reduce: str, blanks: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    work = torch.float64 if states.dtype == torch.float64 else torch.float32
    return (
        states.new_empty(states.shape),
        lengths.new_empty(lengths.shape),
        lengths.new_empty(states.shape[:2]),
        states.new_empty(states.shape[:2], dtype=work),
    )


@_library.register_fake("ctc_shrink_backward")
def _fake_backward(
    grad: Tensor, states: Tensor | None, scores: Tensor | None, segments: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), grad.new_empty(0) if scores is None else torch.empty_like(scores)


def _setup_context(ctx: Any, inputs: tuple, keyword_only_inputs: dict, output: tuple) -> None:
    weighted = keyword_only_inputs["reduce"] == "weighted"
    # For the other two the map is enough: neither scores nor states stay in memory.
    kept = inputs[:2] if weighted else (None, None)
    ctx.save_for_backward(*kept, output[2], output[3])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, Tensor | None, None]:
    if grad is None:
        return None, None, None
    states, scores, segments, weights = ctx.saved_tensors
    grads = torch.ops.stk.ctc_shrink_backward(grad, states, scores, segments, weights)
    return grads[0], None if scores is None else grads[1], None


_library.register_autograd("ctc_shrink", _backward, _setup_context)
_library.forbid_gradient("ctc_shrink_backward", "a second-order gradient is not available")
