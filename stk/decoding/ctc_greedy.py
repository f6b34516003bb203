"""Greedy CTC decoding: the best label of every frame, repeats merged, blanks dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from stk.decoding.hypothesis import Hypothesis


def ctc_greedy(logits: Tensor, lengths: Tensor, blank: int = 0) -> list[Hypothesis]:
    """Collapse the most probable path of every row (Graves et al., 2006).

    Args:
        logits: ``(B, T, V)`` unnormalised CTC scores.
        lengths: ``(B,)`` int64, real frames of each row.
        blank: id of the blank label.

    Returns:
        One hypothesis a row. ``log_prob`` and ``score`` are the path's log-probability, which is
        a lower bound of the collapsed sequence's.
    """
    log_probs, labels = logits.log_softmax(dim=-1, dtype=torch.float32).max(dim=-1)
    real = torch.arange(logits.size(1), device=logits.device) < lengths[:, None]
    before = torch.nn.functional.pad(labels, (1, 0), value=blank)[:, :-1]
    kept = real & (labels != blank) & (labels != before)
    paths = log_probs.masked_fill(~real, 0.0).double().sum(-1).tolist()
    counts = kept.sum(-1).tolist()
    pieces = labels[kept].cpu().split(counts)
    return [
        Hypothesis(tokens=tuple(row.tolist()), score=path, log_prob=path)
        for row, path in zip(pieces, paths, strict=True)
    ]
