"""What a search asks at every step: scores of all next tokens. Models, ensembles, mixtures.

A scorer is a running computation over ``B`` sentences times ``K`` hypotheses. Ensembles, joint
CTC-attention decoding and language-model fusion are compositions of scorers; the search knows
one scorer and nothing of what is inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from stk.models.outputs import Autoregressive, Encoded


class Scorer(Protocol):
    """Scores of the next token for every hypothesis of every sentence.

    Scores are log-probabilities or differences of them, never above 0: the search relies on it
    when it stops early.
    """

    def step(self, tokens: Tensor) -> Tensor:
        """Read ``tokens (B, K)`` int64; return float32 scores ``(B, K, V)`` of what follows.

        The tensor is the caller's to overwrite.
        """
        ...

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Follow the search: see :meth:`stk.models.outputs.DecoderState.reorder`."""
        ...


class ModelScorer:
    """Log-probabilities of one autoregressive model.

    Args:
        model: see :class:`~stk.models.outputs.Autoregressive`.
        encoded: its encoder's output for the batch.
    """

    def __init__(self, model: Autoregressive, encoded: Encoded) -> None:
        self.model = model
        self.state: Any = model.start(encoded)

    def step(self, tokens: Tensor) -> Tensor:
        """Log-softmax in float32 of the model's logits."""
        logits, self.state = self.model.step(tokens, self.state)
        return logits.log_softmax(dim=-1, dtype=torch.float32)

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Reorder the model's caches."""
        self.state = self.state.reorder(hypotheses, sentences)


class Ensemble:
    """The mean probability of several scorers: ``logsumexp_m(log p_m) - log M`` at every step.

    Args:
        members: scorers over one target vocabulary; at least one.
    """

    def __init__(self, members: Sequence[Scorer]) -> None:
        self.members = tuple(members)

    def step(self, tokens: Tensor) -> Tensor:
        """Log of the members' mean probability."""
        scores = torch.stack([member.step(tokens) for member in self.members])
        return scores.logsumexp(dim=0) - math.log(len(self.members))

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Reorder every member."""
        for member in self.members:
            member.reorder(hypotheses, sentences)


class Mixture:
    """A weighted sum of scorers' scores: joint CTC-attention, or fusion of a language model.

    Args:
        parts: ``(weight, scorer)``; weights are at least 0. A language model enters as
            ``(weight, ModelScorer(lm, encoded))``.
    """

    def __init__(self, parts: Sequence[tuple[float, Scorer]]) -> None:
        self.parts = tuple(parts)

    def step(self, tokens: Tensor) -> Tensor:
        """Sum of weight times score."""
        total: Tensor | None = None
        for weight, scorer in self.parts:
            scores = scorer.step(tokens) * weight
            total = scores if total is None else total + scores
        assert total is not None, "a mixture has at least one part"
        return total

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Reorder every part."""
        for _, scorer in self.parts:
            scorer.reorder(hypotheses, sentences)
