"""Cross-entropy against another model's distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_cross_entropy(logits: Tensor, taught: Tensor) -> Tensor:
    """``-sum p log q`` over all rows, with ``p`` the softmax of ``taught``, ``q`` of ``logits``.

    Args:
        logits: ``(N, V)`` of any floating dtype; computed in at least fp32.
        taught: ``(N, V)``, the teacher's logits; no gradient reaches them.

    Returns:
        0-dim.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    wanted = taught.detach().softmax(-1, dtype=wide)
    return -(wanted * logits.log_softmax(-1, dtype=wide)).sum()


def sparse_cross_entropy(logits: Tensor, choices: Tensor, shares: Tensor) -> Tensor:
    """``-sum p log q`` over all rows, with ``p`` given for a few tokens and zero elsewhere.

    Args:
        logits: ``(N, V)`` of any floating dtype; computed in at least fp32.
        choices: ``(N, K)`` int64 tokens.
        shares: ``(N, K)`` their probabilities; rows should sum to 1.

    Returns:
        0-dim.
    """
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    picked = scores.gather(1, choices) - scores.logsumexp(1, keepdim=True)
    return -(shares.to(picked.dtype) * picked).sum()
