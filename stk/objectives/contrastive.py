"""The contrastive objective of wav2vec 2.0 (Baevski et al., 2020)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from stk.data.batch import Batch, Item, Size, Source
from stk.data.example import Example
from stk.errors import StkError
from stk.modules.quantizer import code_perplexity, diversity_loss, prob_perplexity
from stk.objectives import task
from stk.objectives.base import CollateContext, Context, Objective, Sum
from stk.objectives.masking import SpanConfig, draw_distractors, draw_spans, trim
from stk.objectives.sequence import Weight, weight_of

WATCH_EVERY = 100
"""Collapse is looked for once in so many updates; looking waits for the device."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(SpanConfig):
    """Configuration of :class:`Contrastive`; the defaults are those of BASE.

    ``distractors`` a masked step, similarities divided by ``temperature``; ``diversity`` and
    ``penalty`` weigh the extra losses (LARGE: penalty 0), each a number or a scheduled scalar.
    Longer clips are cropped at random to ``crop`` samples (BASE 250,000, LARGE 320,000).
    """

    distractors: int = 100
    temperature: float = 0.1
    diversity: Weight = 0.1
    penalty: Weight = 10.0
    crop: int | None = 250_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distractors < 1 or self.temperature <= 0.0:
            raise ValueError("distractors must be at least 1, temperature above 0")
        if self.crop is not None and self.crop < 1:
            raise ValueError("crop must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ContrastiveBatch(Batch):
    """Sound, what is masked of it, and what it is told apart from.

    Attributes:
        source: samples ``(B, N)``.
        places: ``(B, M)`` int64, masked steps, as many in every row.
        distractors: ``(B, M, K)`` int64 in ``0..M - 1``, never the step itself.
        sizes: what :meth:`Contrastive.counts` returns.
    """

    source: Source
    places: Tensor
    distractors: Tensor
    sizes: Mapping[str, float]


class Contrastive(Objective):
    """Tells the quantised features of each masked step from those of others of the same clip.

    Sums: ``contrastive`` per ``masked``; ``diversity`` per ``batches``, of probabilities averaged
    over all processes; ``penalty`` (mean squared features) per ``frames``. Metrics: ``accuracy``
    and ``duplicates`` (share of distractors whose codes are the positive's) per ``masked``;
    ``code_perplexity`` and ``prob_perplexity``, summed over groups, per ``batches``. Warnings
    tell when the codes have collapsed, or when validation chooses among few.

    Args:
        config: its configuration.
    """

    needs = frozenset({"audio"})
    reads_audio = True

    def __init__(self, config: ContrastiveConfig) -> None:
        self.config = config
        self._looked: int | None = None

    def size(self, example: Example, context: CollateContext) -> Size:
        """Frames of sound, after cropping."""
        frames = task.source_size(example, task.SourceConfig(), context).frames
        if self.config.crop is None or context.frontend is None:
            return Size(frames=frames)
        longest = context.frontend.frames(self.config.crop / context.frontend.sample_rate)
        return Size(frames=min(frames, longest))

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why a clip is too short to be masked, or has too few masked steps; or None."""
        assert context.frontend is not None
        steps = _lengths(context)(context.frontend.least_samples(size.frames))
        if steps < self.config.shortest:
            return f"too short to be masked: {steps} steps, spans need {self.config.shortest}"
        expected = round(self.config.expected(steps))
        if expected - 1 < self.config.distractors:
            return (
                f"fewer masked steps than distractors: about {expected} of {steps} steps for "
                f"{self.config.distractors} distractors; lower objective.distractors, or raise "
                "the stream's min_frames"
            )
        return None

    def collate(self, items: Sequence[Item], context: CollateContext) -> ContrastiveBatch:
        """Samples, masked steps and distractors, from each row's own generator.

        Raises:
            StkError: a clip is too short to be masked.
        """
        items = [self._cropped(item) for item in items]
        source = task.collate_source(items, task.SourceConfig(), context)
        steps = _lengths(context)(source.lengths).tolist()
        for item, count in zip(items, steps, strict=True):
            if count < self.config.shortest:
                raise StkError(
                    f"example {item.example.id!r} has {count} steps, and masks need "
                    f"{self.config.shortest}",
                    file=item.example.file,
                    row=item.example.row,
                    mend="raise the stream's min_frames",
                )
        spans = [
            draw_spans(count, self.config, item.rng)
            for item, count in zip(items, steps, strict=True)
        ]
        places = trim(spans)
        rngs = [item.rng for item in items]
        return ContrastiveBatch(
            ids=tuple(item.example.id for item in items),
            source=source,
            places=places,
            distractors=draw_distractors(places.shape[1], self.config.distractors, rngs),
            sizes={
                "examples": len(items),
                "masked": places.numel(),
                "frames": sum(steps),
                "batches": 1,
            },
        )

    def _cropped(self, item: Item) -> Item:
        crop, waveform = self.config.crop, item.waveform
        if crop is None or waveform is None or len(waveform) <= crop:
            return item
        start = int(item.rng.integers(0, len(waveform) - crop + 1))
        return Item(example=item.example, rng=item.rng, waveform=waveform[start : start + crop])

    def counts(self, batch: Batch) -> dict[str, float]:
        """``examples``, ``masked`` steps, ``frames``, and ``batches``, which is 1."""
        assert isinstance(batch, ContrastiveBatch)
        return dict(batch.sizes)

    def forward(self, model: Any, batch: ContrastiveBatch, context: Context) -> dict[str, Sum]:
        """``contrastive``, ``diversity``, ``penalty``, and metrics."""
        out = model.contrast(batch.source, batch.places, step=context.step)
        same = equal_codes(out.quantized.codes, batch.distractors)
        loss, correct = info_nce(
            out.predicted, out.targets, batch.distractors, same, self.config.temperature
        )
        probs = out.quantized.mean_probs
        if model.training:
            probs = averaged(probs, float(batch.places.numel()))
        perplexity = code_perplexity(out.quantized.code_counts).sum()
        duplicates = same.float().mean(-1).sum()
        share = duplicates / batch.places.numel()
        if model.training and context.step % WATCH_EVERY == 0:
            _watch(float(perplexity), len(probs), float(share), context.step)
        elif not model.training and context.step != self._looked:  # once a validation
            self._looked = context.step
            _watch_choices(float(perplexity), probs.numel(), float(share), context.step)
        scalars = context.scalars
        return {
            "contrastive": Sum(loss, "masked"),
            "diversity": Sum(
                diversity_loss(probs), "batches", weight_of(self.config.diversity, scalars)
            ),
            "penalty": Sum(out.energy, "frames", weight_of(self.config.penalty, scalars)),
            "accuracy": Sum(correct, "masked", 0.0),
            "duplicates": Sum(duplicates, "masked", 0.0),
            "code_perplexity": Sum(perplexity, "batches", 0.0),
            "prob_perplexity": Sum(prob_perplexity(probs).sum(), "batches", 0.0),
        }


def _lengths(context: CollateContext) -> Callable[..., Any]:
    if context.wave_lengths is None:
        raise StkError(
            "contrastive needs a model that reads samples and predicts masked steps",
            mend="set model: {name: wav2vec2} and features: {kind: waveform}",
        )
    return context.wave_lengths


def equal_codes(codes: Tensor, distractors: Tensor) -> Tensor:
    """``(B, M, K)`` boolean: which distractors have the very codes of the positive.

    Args:
        codes: ``(B, M, G)`` int64.
        distractors: ``(B, M, K)`` int64 places among the M.
    """
    rows = torch.arange(len(codes), device=codes.device)[:, None, None]
    return (codes[rows, distractors] == codes[:, :, None]).all(-1)


def info_nce(
    predicted: Tensor, targets: Tensor, distractors: Tensor, same: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the positive among distractors, by cosine similarity.

    Similarities of all pairs of a clip are one matrix product, from which those wanted are read;
    vectors of distractors are never gathered.

    Args:
        predicted: ``(B, M, E)``.
        targets: ``(B, M, E)``; the positive of step ``m`` is ``targets[:, m]``.
        distractors: ``(B, M, K)`` int64 places among the M.
        same: ``(B, M, K)`` boolean, True = not to be told from the positive, and left out.
        temperature: divides similarities.

    Returns:
        The summed loss, and how many positives are nearest, both 0-dim fp32 (fp64 for fp64).
        A step all of whose distractors are left out counts as wrong.
    """
    wide = torch.promote_types(predicted.dtype, torch.float32)
    with torch.autocast(predicted.device.type, enabled=False):
        mine = F.normalize(predicted.to(wide), dim=-1)
        others = F.normalize(targets.to(wide), dim=-1)
        scores = torch.bmm(mine, others.transpose(1, 2)) / temperature
        positive = scores.diagonal(dim1=1, dim2=2)
        negative = scores.gather(2, distractors).masked_fill(same, -torch.inf)
        logits = torch.cat([positive[:, :, None], negative], -1)
        loss = (logits.logsumexp(-1) - positive).sum()
    right = (positive.detach() > negative.detach().amax(-1)) & ~same.all(-1)
    return loss, right.sum().to(wide)


def averaged(probs: Tensor, count: float) -> Tensor:
    """Mean probabilities over the rows of all processes; every process must call it.

    Each process's loss of the result, averaged over processes as losses per ``batches`` are, has
    the gradient of the one loss of the one mean: the gradient of a process's own share is
    multiplied by their number, since only that process sees it.

    Args:
        probs: ``(G, V)``, mean over this process's rows.
        count: of rows.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return probs
    total = torch.tensor(count, device=probs.device, dtype=probs.dtype)
    summed = probs.detach() * total
    dist.all_reduce(summed)
    dist.all_reduce(total)
    own = probs * (count * dist.get_world_size() / total)
    return summed / total + (own - own.detach())


def _watch(perplexity: float, groups: int, duplicates: float, step: int) -> None:
    """Warn in training when nearly one code is left, or when most distractors are the positive."""
    if perplexity < 1.1 * groups or duplicates > 0.5:
        warnings.warn(
            f"the codes have collapsed at update {step}: code perplexity {perplexity:.1f} in "
            f"{groups} groups, {100 * duplicates:.0f} % of distractors equal the positive; lower "
            "optim.lr, or raise objective.diversity, the batch, or the temperature's end",
            stacklevel=2,
        )


def _watch_choices(perplexity: float, codes: int, duplicates: float, step: int) -> None:
    """Warn in validation when few codes are the likeliest ones: noise hides that in training."""
    if duplicates > 0.1:
        warnings.warn(
            f"few codes are ever the likeliest at update {step}: {100 * duplicates:.0f} % of "
            f"distractors equal the positive, code perplexity {perplexity:.1f} of {codes}; slow "
            "the feature extractor or hold it for a while (optim.groups, freeze), or raise "
            "objective.diversity",
            stacklevel=2,
        )
