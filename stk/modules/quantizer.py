"""Product quantiser with Gumbel noise, for wav2vec 2.0 targets and SemFace codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stk.ops import gumbel_vq, gumbel_vq_linear


@dataclass(frozen=True, kw_only=True)
class TemperatureSchedule:
    """``tau(step) = max(start * decay ** step, end)``, step counted in optimiser updates.

    The defaults are those of wav2vec 2.0 BASE (Baevski et al., 2020); LARGE ends at 0.1.
    """

    start: float = 2.0
    end: float = 0.5
    decay: float = 0.999995

    def __post_init__(self) -> None:
        if not (0.0 < self.end <= self.start and 0.0 < self.decay <= 1.0):
            raise ValueError(
                "temperature: expected 0 < end <= start and 0 < decay <= 1, got "
                f"start={self.start}, end={self.end}, decay={self.decay}"
            )

    def __call__(self, step: int) -> float:
        """Temperature after ``step`` updates."""
        return max(self.start * self.decay**step, self.end)


class QuantizerOutput(NamedTuple):
    """What :class:`ProductQuantizer` returns; ``...`` are the leading dimensions of its input."""

    vectors: Tensor
    """``(..., G*d)``, dtype of the codebook: chosen entries, groups one after the other."""
    codes: Tensor
    """``(..., G)`` int64."""
    mean_probs: Tensor
    """``(G, V)`` fp32: mean of the clean softmax over all rows; differentiable."""
    code_counts: Tensor
    """``(G, V)`` int64: hard choices."""


class ProductQuantizer(nn.Module):
    """Chooses one of V codes in each of G groups and returns their vectors (Baevski et al., 2020).

    Training chooses with Gumbel noise and a straight-through gradient, evaluation by arg-max. Every
    row given counts in ``mean_probs`` and ``code_counts``: leave padding out before.

    Args:
        dim: width of the input.
        groups: G; 2 in wav2vec 2.0, 1 in SemFace (Ren et al., 2021).
        codes: V codes per group; 320 and 102,400.
        code_dim: width d of one group's codes.
        projection: ``"linear"`` gives logits ``Lin(h)``; ``"mlp"`` gives ``Lin(ReLU(Lin(h)))``
            as in SemFace, with a hidden layer of width ``dim``.
        temperature: schedule of tau.
        fused: compute logits in chunks and never store them whole
            (:func:`stk.ops.gumbel_vq_linear`); None does so above 4,096 logits per row.
    """

    def __init__(
        self,
        dim: int,
        *,
        groups: int = 2,
        codes: int = 320,
        code_dim: int = 128,
        projection: Literal["linear", "mlp"] = "linear",
        temperature: TemperatureSchedule | None = None,
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature or TemperatureSchedule()
        self.fused = groups * codes > 4096 if fused is None else fused
        self.hidden = nn.Linear(dim, dim) if projection == "mlp" else None
        self.logits = nn.Linear(dim, groups * codes)
        self.codebook = nn.Parameter(torch.empty(groups, codes, code_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Unit-variance logit weights, codes uniform in [0, 1) (Baevski et al., 2020)."""
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        nn.init.uniform_(self.codebook)

    def forward(
        self,
        hidden: Tensor,
        *,
        step: int = 0,
        seed: int | Tensor | None = None,
        offset: int | Tensor | None = None,
    ) -> QuantizerOutput:
        """Quantises every row of ``hidden``.

        Args:
            hidden: ``(..., dim)``.
            step: optimiser updates done, for the temperature.
            seed: see :func:`stk.ops.gumbel_vq`, as ``offset``.
            offset: see ``seed``.
        """
        groups, codes, width = self.codebook.shape
        rows = hidden.reshape(-1, hidden.shape[-1])
        if self.hidden is not None:
            rows = functional.relu(self.hidden(rows))
        tau, weight, bias = self.temperature(step), self.logits.weight, self.logits.bias
        if self.fused:
            out = gumbel_vq_linear(
                *(rows, weight, bias, self.codebook),
                tau=tau,
                training=self.training,
                seed=seed,
                offset=offset,
            )
        else:
            logits = self.logits(rows).reshape(-1, groups, codes)
            out = gumbel_vq(
                *(logits, self.codebook),
                tau=tau,
                training=self.training,
                seed=seed,
                offset=offset,
            )
        return QuantizerOutput(
            out.vectors.reshape(*hidden.shape[:-1], groups * width),
            out.codes.reshape(*hidden.shape[:-1], groups),
            out.mean_probs,
            out.code_counts,
        )


def _entropy(probs: Tensor) -> Tensor:
    """Of every row; the clamp keeps the gradient finite where a probability is 0."""
    return -(probs * probs.clamp(min=1e-12).log()).sum(-1)


def prob_perplexity(mean_probs: Tensor) -> Tensor:
    """``exp`` of each group's entropy: ``(G, V)`` -> ``(G,)``, in ``[1, V]``; differentiable."""
    return _entropy(mean_probs).exp()


def code_perplexity(code_counts: Tensor) -> Tensor:
    """Perplexity of hard choices: ``(G, V)`` counts (summed over processes first) -> ``(G,)`` fp32.

    1 where nothing was counted.
    """
    counts = code_counts.float()
    return prob_perplexity(counts / counts.sum(-1, keepdim=True).clamp(min=1.0))


def diversity_loss(
    mean_probs: Tensor, *, form: Literal["perplexity", "entropy"] = "perplexity"
) -> Tensor:
    """Penalty for codes that go unused; a scalar, smallest when ``mean_probs`` is uniform.

    Args:
        mean_probs: ``(G, V)``.
        form: ``"perplexity"`` is ``(G V - sum of perplexities) / (G V)``, in ``[0, 1)``, as wav2vec
            2.0 is trained; ``"entropy"`` is ``sum p log p / (G V)``, as both papers print it, which
            spans no more than ``log(V) / V``.
    """
    if form == "perplexity":
        size = mean_probs.numel()
        return (size - prob_perplexity(mean_probs).sum()) / size
    if form == "entropy":
        return -_entropy(mean_probs).sum() / mean_probs.numel()
    raise ValueError(f"form: expected 'perplexity' or 'entropy', got {form!r}")
