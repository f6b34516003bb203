"""Plain-PyTorch twin of :func:`stk.ops.ctc_shrink`: any device, any autograd order, ONNX."""

from __future__ import annotations

import torch
from torch import Tensor


def ctc_shrink_reference(
    states: Tensor,
    scores_or_labels: Tensor,
    lengths: Tensor,
    *,
    blank: int = 0,
    reduce: str = "mean",
    blanks: str = "drop",
) -> tuple[Tensor, Tensor, Tensor]:
    """Same arguments and results as :func:`stk.ops.ctc_shrink`, which documents them."""
    frames = states.shape[1]
    real = torch.arange(frames, device=states.device)[None, :] < lengths[:, None]
    if frames == 0 or states.shape[0] == 0:
        # Nothing to reduce over; arg-max has no meaning on an empty axis.
        return states.clone(), torch.zeros_like(lengths).long(), real.long()
    has_scores = scores_or_labels.is_floating_point()
    # What stands in the padding (it may be NaN) must reach neither values nor gradients.
    scores = scores_or_labels.masked_fill(~real[..., None], 0) if has_scores else None
    labels = scores.argmax(-1) if scores is not None else scores_or_labels

    kept, starts = _runs(labels, scores, real, blank, drop=blanks == "drop")
    segments = torch.where(kept, starts.long().cumsum(1) - 1, -1)
    weights = _frame_weights(labels, scores, kept, starts, reduce)

    work = torch.float64 if states.dtype == torch.float64 else torch.float32
    weights = weights.to(work)
    slot = segments.clamp(min=0)
    total = torch.zeros_like(weights).scatter_add(1, slot, weights)
    weights = weights / torch.where(total > 0, total, 1.0).gather(1, slot)
    rows = states.masked_fill(~kept[..., None], 0).to(work) * weights[..., None]
    shrunk = torch.zeros_like(rows).scatter_add(1, slot[..., None].expand_as(rows), rows)
    return shrunk.to(states.dtype), starts.long().sum(1), segments


def _runs(
    labels: Tensor, scores: Tensor | None, real: Tensor, blank: int, *, drop: bool
) -> tuple[Tensor, Tensor]:
    """``kept`` and ``starts``, both ``(B, T)`` bool: the frames of a run, and its first frame."""
    starts = torch.ones_like(real)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    if not drop:
        return real, starts & real
    kept = real & (labels != blank)
    # A clip that is blank throughout keeps one frame, so that attention after it has a key.
    if scores is None:
        best = torch.zeros_like(labels[:, :1])
    else:
        others = torch.arange(scores.shape[-1], device=scores.device) != blank
        nearest = scores.masked_fill(~others, -torch.inf).amax(-1)
        best = nearest.masked_fill(~real, -torch.inf).argmax(-1, keepdim=True)
    frame = torch.arange(real.shape[1], device=real.device)[None, :]
    rescued = (frame == best) & real & ~kept.any(1, keepdim=True)
    return kept | rescued, (starts & kept) | rescued


def _frame_weights(
    labels: Tensor, scores: Tensor | None, kept: Tensor, starts: Tensor, reduce: str
) -> Tensor:
    """How much a frame counts within its run, before division by the run's total."""
    if reduce == "first":
        return starts.float()
    if reduce == "mean":
        return kept.float()
    assert scores is not None
    work = torch.float64 if scores.dtype == torch.float64 else torch.float32
    chosen = scores.to(work).log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)
    return chosen.exp() * kept
