"""Sampling from a model's distribution, as back-translation wants it (Edunov et al., 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stk.config.run import DecodeConfig
from stk.decoding.beam import NEVER, Search, Symbols, run_search
from stk.decoding.hypothesis import Hypotheses
from stk.decoding.scorers import Scorer


@torch.inference_mode()
def sample(
    scorer: Scorer,
    *,
    prefixes: Sequence[Sequence[int]],
    limits: Tensor,
    config: DecodeConfig,
    symbols: Symbols,
    generators: Sequence[np.random.Generator],
    frames: Sequence[tuple[int, int]] | None = None,
) -> list[Hypotheses]:
    """Draw ``nbest`` outputs of every sentence of a batch, independently of each other.

    A token is drawn by inversion: one number in [0, 1) of the sentence's own generator, looked up
    in the cumulated probabilities. So draws do not depend on the rest of the batch, but for
    probabilities that round differently there.

    Args:
        scorer: as in :func:`~stk.decoding.beam.beam_search`; its scores are log-probabilities.
        prefixes: as there.
        limits: as there.
        config: ``nbest``, ``temperature``, ``top_k``, ``min_length`` and ``length_penalty`` are
            read.
        symbols: ids of the vocabulary.
        generators: one a sentence.
        frames: as there.

    Returns:
        For every sentence ``nbest`` outputs, which may be alike, by falling score. Scores are the
        model's own, whatever the temperature.

    Raises:
        StkError: the scorer's scores are not numbers.
    """
    if not prefixes:
        return []
    drawn = dataclasses.replace(config, beam=config.nbest)
    return run_search(_Sampling(generators, prefixes, limits, drawn, symbols, frames), scorer)


class _Sampling(Search):
    """Every hypothesis goes on by a token of its own; what has ended leaves an empty place."""

    def __init__(self, generators: Sequence[np.random.Generator], *search: Any) -> None:
        super().__init__(*search)
        self.generators = generators

    def _candidates(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One drawn continuation of each hypothesis, and as many places where none is."""
        batch, live, _ = log_probs.shape
        count = self.beam
        parents = torch.arange(count, device=log_probs.device).expand(batch, count)
        if live < count:  # the first step: one hypothesis, of which all samples begin
            parents = torch.zeros_like(parents)
            log_probs = log_probs.expand(-1, count, -1)
        tokens = draw(log_probs, self._numbers().to(log_probs.device), self.config)
        picked = log_probs.gather(2, tokens[:, :, None])[:, :, 0]
        ranked = self.scores.gather(1, parents) + picked
        return (
            torch.cat([ranked, torch.full_like(ranked, NEVER)], dim=1),
            torch.cat([parents, torch.zeros_like(parents)], dim=1),
            torch.cat([tokens, torch.zeros_like(tokens)], dim=1),
        )

    def _numbers(self) -> Tensor:
        """``(B, K)`` fp64; forced tokens take none, since how many are read at once differs."""
        numbers = torch.zeros(len(self.sentences), self.beam, dtype=torch.float64)
        free = (self.position >= self.prefix_lengths).tolist()
        for row, sentence in enumerate(self.sentences.tolist()):
            if free[row]:
                numbers[row] = torch.from_numpy(self.generators[sentence].random(self.beam))
        return numbers

    def _may_improve(self) -> Tensor:
        """``(B,)``: whether a sample is still being written."""
        return self.scores.amax(dim=1) > NEVER


def draw(log_probs: Tensor, numbers: Tensor, config: DecodeConfig) -> Tensor:
    """Tokens drawn by inversion.

    Args:
        log_probs: ``(B, K, V)``; they need not add up to 1, -inf is never drawn.
        numbers: ``(B, K)`` fp64 in [0, 1).
        config: ``temperature`` divides log-probabilities; with ``top_k`` only the k most probable
            tokens (and those as probable as the last of them) are drawn.

    Returns:
        ``(B, K)`` int64.
    """
    if 0 < config.top_k < log_probs.size(2):
        least = log_probs.topk(config.top_k, dim=2).values[:, :, -1:]
        log_probs = log_probs.masked_fill(log_probs < least, NEVER)
    heat = log_probs.double() / config.temperature
    cumulated = (heat - heat.amax(dim=2, keepdim=True)).exp().cumsum(dim=2)
    total = cumulated[:, :, -1:]
    wanted = torch.minimum(numbers[:, :, None] * total, torch.nextafter(total, total.new_zeros(())))
    found = torch.searchsorted(cumulated, wanted.contiguous(), right=True)[:, :, 0]
    return found.clamp(max=log_probs.size(2) - 1)  # scores that are not numbers find no place
