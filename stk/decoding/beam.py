"""Beam search over a :class:`~stk.decoding.scorers.Scorer`, vectorised over the batch.

A hypothesis is complete when the end symbol ranks among the ``beam`` best continuations of its
sentence. A sentence is done when ``beam`` hypotheses are complete, when no live one can still
overtake the ``nbest`` complete ones, or at its length limit, where the end symbol is forced. Done
sentences leave the batch, and the caches shrink with them. What a sentence gets never depends on
its neighbours: limits and prefixes are its own; ties go to the lower hypothesis, then the lower
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stk.config.run import DecodeConfig
from stk.decoding.best import best_of
from stk.decoding.hypothesis import Hypotheses, Hypothesis
from stk.decoding.scorers import Scorer
from stk.errors import StkError

NEVER = -torch.inf


@dataclass(frozen=True, kw_only=True)
class Symbols:
    """Ids with a meaning for the search; ``forbidden`` are never written (padding, tags)."""

    bos: int = 2
    eos: int = 3
    forbidden: tuple[int, ...] = (0, 2)


def length_limits(lengths: Tensor, config: DecodeConfig) -> Tensor:
    """How many tokens each sentence may write, the end symbol not counted.

    Args:
        lengths: ``(B,)`` int64, encoder states of each sentence.
        config: ``max_ratio``, ``max_extra`` and ``max_length`` are read.

    Returns:
        ``(B,)`` int64, at least 1.
    """
    limits = (lengths.double() * config.max_ratio).ceil().long() + config.max_extra
    return limits.clamp(min=1, max=config.max_length)


@torch.inference_mode()
def beam_search(
    scorer: Scorer,
    *,
    prefixes: Sequence[Sequence[int]],
    limits: Tensor,
    config: DecodeConfig,
    symbols: Symbols,
    frames: Sequence[tuple[int, int]] | None = None,
) -> list[Hypotheses]:
    """Search the best outputs of a batch.

    Args:
        scorer: freshly started, one hypothesis a sentence and nothing read.
        prefixes: for every sentence the ids forced after the begin symbol (any lengths). They add
            nothing to scores and lengths.
        limits: ``(B,)`` int64, most tokens written after the prefix.
        config: ``beam``, ``nbest``, ``length_penalty`` and ``min_length`` are read.
        symbols: ids of the vocabulary.
        frames: for every sentence its own begin and end symbol, which may be forbidden ones; None:
            those of ``symbols``.

    Returns:
        For every sentence up to ``nbest`` hypotheses, best first, at least one.

    Raises:
        StkError: the scorer's scores are not numbers.
    """
    if not prefixes:
        return []
    return run_search(Search(prefixes, limits, config, symbols, frames), scorer)


def run_search(search: Search, scorer: Scorer) -> list[Hypotheses]:
    """Feed a search until no sentence is left; return what every sentence got.

    Args:
        search: of at least one sentence.
        scorer: freshly started, one hypothesis a sentence and nothing read.

    Raises:
        StkError: the scorer's scores are not numbers.
    """
    tokens = search.read_common_prefix(scorer)
    while True:
        hypotheses, sentences = search.advance(scorer.step(tokens))
        if search.is_over:
            return search.results
        if search.beam > 1 or sentences is not None:
            scorer.reorder(hypotheses, sentences)
        tokens = search.written[:, :, -1]


class Search:
    """The running state. ``B`` counts the sentences still searched, ``K`` live hypotheses.

    ``written (B, K, t)`` and ``scores (B, K)`` describe the live hypotheses (score -inf: none
    there), ``done_*`` the complete ones, best first. ``position`` counts tokens after the begin
    symbol.
    """

    def __init__(
        self,
        prefixes: Sequence[Sequence[int]],
        limits: Tensor,
        config: DecodeConfig,
        symbols: Symbols,
        frames: Sequence[tuple[int, int]] | None,
    ) -> None:
        device, batch = limits.device, len(prefixes)
        self.beam, self.config = config.beam, config
        framed = torch.tensor(frames or [(symbols.bos, symbols.eos)] * batch, device=device)
        self.begins, self.ends = framed.unbind(1)
        self.forbidden = torch.tensor(symbols.forbidden, dtype=torch.int64, device=device)
        self.prefix_lengths = torch.tensor([len(prefix) for prefix in prefixes], device=device)
        longest = max(len(prefix) for prefix in prefixes)
        rows = [[*prefix, *[0] * (longest - len(prefix))] for prefix in prefixes]
        self.prefixes = torch.tensor(rows, dtype=torch.int64, device=device).view(batch, longest)
        self.common = min(len(prefix) for prefix in prefixes)
        self.limits = limits
        self.first_limit = int((self.prefix_lengths + limits).min())
        self.sentences = torch.arange(batch, device=device)
        self.results: list[Hypotheses] = [[] for _ in prefixes]
        self.position = 0
        self.written = torch.empty(batch, 1, 0, dtype=torch.int64, device=device)
        self.scores = torch.zeros(batch, 1, device=device)
        self.done_scores = torch.full((batch, self.beam), NEVER, device=device)
        self.done_log_probs = self.done_scores.clone()
        self.done_lengths = torch.zeros(batch, self.beam, dtype=torch.int64, device=device)
        self.done_written = torch.empty(batch, self.beam, 0, dtype=torch.int64, device=device)
        self.completed = torch.zeros(batch, dtype=torch.int64, device=device)

    @property
    def is_over(self) -> bool:
        """Whether no sentence is left."""
        return self.sentences.numel() == 0

    def read_common_prefix(self, scorer: Scorer) -> Tensor:
        """Feed what all sentences begin with, one hypothesis each; return what is read next."""
        tokens = self.begins[:, None]
        for _ in range(self.common):
            scorer.step(tokens)
            tokens = self.prefixes[:, self.position, None]
            self.written = torch.cat([self.written, tokens[:, :, None]], dim=2)
            self.position += 1
        return tokens

    def advance(self, log_probs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Choose the next tokens; return what :meth:`Scorer.reorder` takes."""
        ranked, parents, tokens = self._candidates(self._allow(log_probs))
        ends = tokens == self.ends[:, None]
        complete = ends[:, : self.beam] & (ranked[:, : self.beam] > NEVER)
        if bool(complete.any()):
            self._complete(complete, ranked[:, : self.beam], parents[:, : self.beam])
        going = ends.int().sort(dim=1, stable=True).indices[:, : self.beam]
        hypotheses, chosen = parents.gather(1, going), tokens.gather(1, going)
        self.scores = ranked.gather(1, going).masked_fill(ends.gather(1, going), NEVER)
        history = hypotheses[:, :, None].expand(-1, -1, self.position)
        self.written = torch.cat([self.written.gather(1, history), chosen[:, :, None]], dim=2)
        self.position += 1
        return hypotheses, self._drop()

    def _allow(self, log_probs: Tensor) -> Tensor:
        """Close forbidden tokens; force prefixes and, at the limit, the end."""
        config, width = self.config, log_probs.size(1)
        ends = self.ends[:, None, None].expand(-1, width, 1)
        end = log_probs.gather(2, ends)  # taken first: it may be one of the forbidden
        log_probs = log_probs.index_fill_(2, self.forbidden, NEVER)
        count = self.position - self.prefix_lengths
        if self.position < self.prefixes.size(1):
            inside = (count < 0)[:, None, None]
            forced = torch.full_like(log_probs, NEVER)
            index = self.prefixes[:, None, self.position, None].expand(-1, width, 1)
            log_probs = torch.where(inside, forced.scatter(2, index, 0.0), log_probs)
            end = torch.where(inside, log_probs.gather(2, ends), end)
        at_limit = count >= self.limits
        if config.min_length > 0:
            early = (count >= 0) & (count < config.min_length) & ~at_limit
            end.masked_fill_(early[:, None, None], NEVER)
        if self.position >= self.first_limit:
            log_probs.masked_fill_(at_limit[:, None, None], NEVER)
        return log_probs.scatter_(2, ends, end)

    def _candidates(self, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, parents and tokens ``(B, 2 * beam)`` of the best continuations, best first.

        Twice the beam, since at most every parent has one continuation that ends.
        """
        width = min(2 * self.beam, log_probs.size(2))
        values, tokens = best_of(log_probs, width)
        tokens, order = tokens.sort(dim=2)
        totals = (self.scores[:, :, None] + values.gather(2, order)).flatten(1)
        tokens = tokens.flatten(1)
        missing = 2 * self.beam - totals.size(1)
        if missing > 0:
            totals = F.pad(totals, (0, missing), value=NEVER)
            tokens = F.pad(tokens, (0, missing))
        ranked, place = totals.sort(dim=1, descending=True, stable=True)
        ranked, place = ranked[:, : 2 * self.beam], place[:, : 2 * self.beam]
        parents = (place // width).clamp(max=log_probs.size(1) - 1)
        return ranked, parents, tokens.gather(1, place)

    def _complete(self, complete: Tensor, log_probs: Tensor, parents: Tensor) -> None:
        """Put what just ended among the complete hypotheses, and keep the best ``beam``."""
        count = (self.position - self.prefix_lengths).clamp(min=0)
        scores = log_probs / (count + 1)[:, None] ** self.config.length_penalty
        scores = scores.masked_fill(~complete, NEVER)
        best = torch.cat([self.done_scores, scores], dim=1).sort(
            dim=1, descending=True, stable=True
        )
        self.done_scores, order = best.values[:, : self.beam], best.indices[:, : self.beam]
        self.done_log_probs = torch.cat([self.done_log_probs, log_probs], dim=1).gather(1, order)
        lengths = torch.cat([self.done_lengths, count[:, None].expand_as(parents)], dim=1)
        self.done_lengths = lengths.gather(1, order)
        new = self.written.gather(1, parents[:, :, None].expand(-1, -1, self.position))
        old = F.pad(self.done_written, (0, self.position - self.done_written.size(2)))
        history = order[:, :, None].expand(-1, -1, self.position)
        self.done_written = torch.cat([old, new], dim=1).gather(1, history)
        self.completed = self.completed + complete.sum(dim=1)

    def _drop(self) -> Tensor | None:
        """Take done sentences out of the batch; return the rows that stay, None for all."""
        done = (self.completed >= self.beam) | ~self._may_improve()
        if not bool(done.any()):
            return None
        self._collect(done.nonzero()[:, 0])
        stay = (~done).nonzero()[:, 0]
        for name in (
            "prefix_lengths", "prefixes", "limits", "sentences", "written", "scores", "ends",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name).index_select(0, stay))
        for name in ("scores", "log_probs", "lengths", "written"):
            rows = getattr(self, f"done_{name}").index_select(0, stay)
            setattr(self, f"done_{name}", rows)
        self.completed = self.completed.index_select(0, stay)
        return stay

    def _may_improve(self) -> Tensor:
        """``(B,)``: whether a live hypothesis could still enter the ``nbest``.

        Scores never rise, and a length's divisor is monotone, so one of its two ends bounds it.
        """
        count = (self.position - self.prefix_lengths).clamp(min=0)
        ends = torch.stack([count + 1, self.limits + 1], dim=1) ** self.config.length_penalty
        bound = (self.scores.amax(dim=1)[:, None] / ends).amax(dim=1)
        return (bound > self.done_scores[:, self.config.nbest - 1]) & (bound > NEVER)

    def _collect(self, rows: Tensor) -> None:
        names = ("done_scores", "done_log_probs", "done_lengths", "done_written")
        scores, log_probs, lengths, written = (getattr(self, n)[rows].tolist() for n in names)
        begins = self.prefix_lengths[rows].tolist()
        for i, sentence in enumerate(self.sentences[rows].tolist()):
            found = [
                Hypothesis(
                    tokens=tuple(written[i][k][begins[i] : begins[i] + lengths[i][k]]),
                    score=scores[i][k],
                    log_prob=log_probs[i][k],
                )
                for k in range(self.config.nbest)
                if scores[i][k] > NEVER
            ]
            if not found:
                raise StkError(
                    "the model's scores are not numbers, so no translation was found",
                    mend="the checkpoint's training diverged; use an earlier one",
                )
            self.results[sentence] = found
