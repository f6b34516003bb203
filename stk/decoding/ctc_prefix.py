"""CTC prefix scores for joint CTC-attention decoding (Watanabe et al., 2017).

The score of a prefix ``h`` is the probability that the CTC output begins with ``h``. ``r_n[t]``
and ``r_b[t]`` are the probabilities that frames ``1..t`` are read as exactly ``h``, the last of
them as ``h``'s last token or as a blank; ``phi[t] = r_n[t] + r_b[t]``, or ``r_b[t]`` alone where
the next token ``c`` repeats ``h``'s last one. Then::

    psi(h c)  = sum_t phi[t-1] p_c[t]
    r_n'[t]   = (r_n'[t-1] + phi[t-1]) p_c[t]
    r_b'[t]   = (r_b'[t-1] + r_n'[t-1]) p_blank[t]

The first line is a matrix product, so every token of the vocabulary is scored, none preselected;
the others are linear recurrences, which cumulative sums solve for all frames at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

IMPOSSIBLE = -1e4
"""Log-probability that stands for zero where a sum over frames has to stay finite."""


class CtcPrefixScorer:
    """Increments ``log psi(h c) - log psi(h)`` for every token ``c`` of the vocabulary.

    Args:
        logits: ``(B, T, V)`` unnormalised CTC scores of the decoder's own vocabulary.
        lengths: ``(B,)`` int64, real frames of each row.
        silent: ``(B,)`` int64, how many of the first tokens that :meth:`step` reads (begin
            symbol and tags) stand for nothing in the CTC output.
        eos: id that ends a sentence; its score is that of ``h`` being the whole output.
        blank: id of the CTC blank; it is no token and scores :data:`IMPOSSIBLE`.
    """

    def __init__(
        self, logits: Tensor, lengths: Tensor, *, silent: Tensor, eos: int, blank: int = 0
    ) -> None:
        frames = logits.size(1)
        real = torch.arange(frames, device=logits.device) < lengths[:, None]
        log_probs = logits.log_softmax(dim=-1, dtype=torch.float32).clamp(min=IMPOSSIBLE)
        self.log_probs = log_probs.masked_fill(~real[:, :, None], IMPOSSIBLE)
        self.probs = self.log_probs.exp()
        self.lengths, self.silent, self.eos, self.blank = lengths, silent, eos, blank
        self.reads, self.first = 0, int(silent.min())
        self.blanks = _before_and_after(self.log_probs[:, :, blank].double())[:, None]
        # One empty hypothesis a sentence. Index 0 of the last axis is "before the first frame".
        self.ends_blank = self.blanks.clone()
        self.ends_token = torch.full_like(self.blanks, -torch.inf)
        self.last = torch.full_like(lengths, -1)[:, None]  # -1: none yet
        self.prefix = torch.zeros_like(self.blanks[..., 0])

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens (B, K)`` and return float32 increments ``(B, K, V)``, all at most 0."""
        if self.reads >= self.first:
            self._append(tokens, (self.reads >= self.silent)[:, None].expand_as(tokens))
        self.reads += 1
        return self._increments()

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Continue the chosen hypotheses of the kept sentences."""
        frames = hypotheses[:, :, None].expand(-1, -1, self.ends_blank.size(2))
        self.ends_blank = self.ends_blank.gather(1, frames)
        self.ends_token = self.ends_token.gather(1, frames)
        self.last = self.last.gather(1, hypotheses)
        self.prefix = self.prefix.gather(1, hypotheses)
        if sentences is not None:
            names = ("log_probs", "probs", "lengths", "silent", "blanks")
            for name in (*names, "ends_blank", "ends_token", "last", "prefix"):
                setattr(self, name, getattr(self, name).index_select(0, sentences))

    def _of(self, tokens: Tensor) -> Tensor:
        """Log-probabilities ``(B, K, T)`` float64 of one token a hypothesis."""
        index = tokens[:, None, :].expand(-1, self.log_probs.size(1), -1)
        return self.log_probs.gather(2, index).transpose(1, 2).double()

    def _append(self, tokens: Tensor, spoken: Tensor) -> None:
        token = self._of(tokens)
        repeats = (tokens == self.last)[:, :, None]
        either = torch.logaddexp(self.ends_token, self.ends_blank)
        ready = torch.where(repeats, self.ends_blank, either)[..., :-1]
        new_token = _recurrence(ready, _before_and_after(token))
        new_blank = _recurrence(new_token[..., :-1], self.blanks.expand_as(new_token))
        keep = ~spoken[:, :, None]
        self.prefix = torch.where(spoken, (ready + token).logsumexp(-1), self.prefix)
        self.ends_token = torch.where(keep, self.ends_token, new_token)
        self.ends_blank = torch.where(keep, self.ends_blank, new_blank)
        self.last = torch.where(spoken, tokens, self.last)

    def _increments(self) -> Tensor:
        base = torch.where(self.prefix > -torch.inf, self.prefix, 0.0)[:, :, None]
        either = torch.logaddexp(self.ends_token, self.ends_blank)
        ready = either[..., :-1]
        # Scaled to a largest weight of 1, so that float32 loses only what is e^87 times less.
        top = ready.amax(dim=-1, keepdim=True)
        weights = (ready - torch.where(top > -torch.inf, top, 0.0)).exp().float()
        scores = (weights @ self.probs).log_().add_((top - base).float())
        last = torch.where(self.last >= 0, self.last, self.blank)[:, :, None]
        again = (self.ends_blank[..., :-1] + self._of(last[..., 0])).logsumexp(-1, keepdim=True)
        repeated = torch.where(self.last[:, :, None] >= 0, (again - base).float(), -torch.inf)
        scores.scatter_(2, last, repeated)  # without a last token: the blank, overwritten below
        end = self.lengths[:, None, None].expand(-1, either.size(1), 1)
        scores[:, :, self.eos] = (either.gather(2, end) - base)[..., 0].float()
        scores[:, :, self.blank] = IMPOSSIBLE
        # Finite, so that an end forced at the length limit can always be ranked.
        return scores.clamp_(min=IMPOSSIBLE, max=0.0)


def _before_and_after(steps: Tensor) -> Tensor:
    """Cumulative sums over the last axis, with the empty sum in front: ``(..., T + 1)``."""
    return torch.cat([torch.zeros_like(steps[..., :1]), steps.cumsum(-1)], dim=-1)


def _recurrence(inflow: Tensor, sums: Tensor) -> Tensor:
    """Solve ``r[t] = logaddexp(r[t-1], inflow[t-1]) + x[t]``, ``r[0] = -inf``, for every ``t``.

    ``inflow`` is ``(..., T)``; ``sums (..., T + 1)`` holds the cumulative sums of ``x``. Dividing
    by the product of all probabilities so far turns the recurrence into a sum. float64 keeps the
    difference of two large sums exact enough.
    """
    flow = torch.logcumsumexp(inflow - sums[..., :-1], dim=-1)
    return torch.cat([torch.full_like(flow[..., :1], -torch.inf), flow + sums[..., 1:]], dim=-1)
