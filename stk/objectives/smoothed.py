"""Cross-entropy with label smoothing, without a one-hot or a softmax in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 18
"""Elements of logits worked on at once on the CPU, so that each pass finds them in the cache."""


def smoothed_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, *, consume: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all rows of the smoothed loss, the plain loss, and correct first choices.

    The loss of a row is ``-sum_v q(v) log p(v)`` with ``q = (1 - e) onehot + e / V`` (Szegedy et
    al., 2016), as in ``torch.nn.functional.cross_entropy(label_smoothing=e)``. It is computed in
    at least fp32, in two passes over the logits: one here, one in the backward.

    fairseq gives ``e / (V - 1)`` to each wrong token and ``1 - e`` to the right one instead: its
    smoothing of ``e`` is ours of ``e V / (V - 1)``. stk keeps to the paper and to PyTorch. The
    losses hardly differ for a large vocabulary, but between toolkits compare the plain one.

    Args:
        logits: ``(N, V)`` of any floating dtype.
        labels: ``(N,)`` int64 in ``0..V-1``.
        smoothing: ``e`` in [0, 1).
        consume: whether ``logits`` may be overwritten, first with what the backward pass needs,
            then with their gradient, which saves a tensor of their size and taking powers twice.
            Nothing else may then read them, and the backward pass runs once: autograd refuses a
            second one. Logits that are narrower than the sums stay as they are.

    Returns:
        0-dim tensors (fp32, or fp64 for fp64 logits): the smoothed loss, and without gradients
        the negative log-likelihood and the number of rows whose label scores highest.
    """
    loss, nll, correct = _SmoothedCrossEntropy.apply(logits, labels, smoothing, consume)
    return loss, nll, correct


def _chunks(logits: Tensor) -> list[slice]:
    rows, size = logits.shape
    whole = logits.is_cuda or torch.compiler.is_compiling()
    step = rows if whole else max(1, _CHUNK // max(1, size))
    return [slice(start, start + step) for start in range(0, rows, max(1, step))]


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, consume: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        consume &= logits.dtype == wide and ctx.needs_input_grad[0]
        consume &= not torch.compiler.is_compiling()
        totals = logits.new_empty(len(logits), dtype=wide)
        picked, mean, best = (torch.empty_like(totals) for _ in range(3))
        for part in _chunks(logits):
            scores = logits[part].to(wide)
            best[part] = scores.amax(1)
            picked[part] = scores.gather(1, labels[part, None]).squeeze(1)
            if smoothing > 0:
                mean[part] = scores.mean(1)
            into = scores if consume else None
            totals[part] = torch.sub(scores, best[part, None], out=into).exp_().sum(1)
        normalizers = best + totals.log()
        ctx.save_for_backward(logits, labels, totals if consume else normalizers)
        ctx.smoothing, ctx.consumed = smoothing, consume
        nll = (normalizers - picked).sum()
        loss = nll
        if smoothing > 0:
            loss = (normalizers - (1 - smoothing) * picked - smoothing * mean).sum()
        correct = (picked >= best).sum().to(wide)
        nll = nll.clone()
        ctx.mark_non_differentiable(nll, correct)
        return loss, nll, correct

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        logits, labels, saved = ctx.saved_tensors
        grad = logits if ctx.consumed else torch.empty_like(logits)
        for part in _chunks(logits):
            into = grad[part] if grad.dtype == saved.dtype else None
            if ctx.consumed:  # what lies there are powers, of which saved holds the sums
                chunk = grad[part].mul_(scale / saved[part, None])
            else:
                scores = logits[part].to(saved.dtype)
                chunk = torch.sub(scores, saved[part, None], out=into).exp_().mul_(scale)
            if ctx.smoothing > 0:
                chunk -= scale * (ctx.smoothing / logits.shape[1])
            minus = (scale * (ctx.smoothing - 1.0)).expand(len(chunk), 1)
            chunk.scatter_add_(1, labels[part, None], minus)
            if into is None:
                grad[part] = chunk
        return grad, None, None, None
