"""Paired bootstrap between two systems (Koehn, 2004), resampled by groups of sentences.

Where several clips speak the same sentence (many voices, one reference) they are no independent
samples: drawing clips one by one would make differences look surer than they are. So what is
drawn with replacement are groups, by default all clips that share a reference, case and
punctuation aside.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stk.data.normalise import normalise
from stk.errors import StkError
from stk.scoring.metric import Metric, Statistics, check_lengths


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system beside a baseline, in percent of the metric.

    Attributes:
        metric: name of the metric.
        signature: its settings.
        baseline: the baseline's score.
        system: the system's score.
        difference: ``system - baseline``.
        low: lower end of the difference's 95 % bootstrap interval.
        high: upper end.
        p_value: two-sided: how often a resampled difference, centred at 0, is at least as large
            as the one observed (Riezler and Maxwell, 2005, with 1 added to both counts).
        better: share of resamples in which the system is the better one.
        samples: resamples drawn.
        groups: groups they were drawn from.
    """

    metric: str
    signature: str
    baseline: float
    system: float
    difference: float
    low: float
    high: float
    p_value: float
    better: float
    samples: int
    groups: int

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.baseline:.2f} -> {self.system:.2f}: {self.difference:+.2f}"
            f" [{self.low:+.2f}, {self.high:+.2f}], p = {self.p_value:.4f}, better in"
            f" {100 * self.better:.1f} % of {self.samples} resamples of {self.groups} groups"
        )


def paired_bootstrap(
    metric: Metric,
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    *,
    groups: Sequence[Hashable] | None = None,
    samples: int = 1000,
    seed: int = 12345,
) -> Comparison:
    """Test whether two systems differ on one test set.

    Args:
        metric: any :class:`~stk.scoring.metric.Metric`.
        baseline: outputs of the first system.
        system: outputs of the second, for the same sentences.
        references: one reference a sentence.
        groups: what belongs together in resampling, one key a sentence; None: the
            reference without case and punctuation.
        samples: number of resamples.
        seed: of the resampling; the result is a function of it and the inputs.

    Raises:
        StkError: numbers of sentences differ, or there is only one group.
    """
    check_lengths(baseline, references)
    check_lengths(system, references)
    keys: list[Hashable] = list(groups) if groups is not None else []
    if groups is None:
        keys = [normalise(reference, "lower-nopunct") for reference in references]
    if len(keys) != len(references):
        raise StkError(f"{len(keys)} group keys for {len(references)} sentences")
    pair = [metric.statistics(outputs, references) for outputs in (baseline, system)]
    scores = [metric.combine(statistics.sum(axis=0)) for statistics in pair]
    order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    members = np.array([order[key] for key in keys])
    if len(order) < 2:
        raise StkError(
            "one group cannot be resampled", mend="a test needs at least two distinct references"
        )
    draws = resample(len(order), samples, seed)
    first, second = (_scores(metric, _by_group(s, members, len(order)), draws) for s in pair)
    differences = second - first
    difference = scores[1] - scores[0]
    extreme = np.abs(differences - differences.mean()) >= abs(difference)
    low, high = np.percentile(differences, [2.5, 97.5])
    sign = 1 if metric.higher_is_better else -1
    return Comparison(
        metric=metric.name,
        signature=metric.signature(),
        baseline=scores[0],
        system=scores[1],
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=float((1 + extreme.sum()) / (1 + samples)),
        better=float((sign * differences > 0).mean()),
        samples=samples,
        groups=len(order),
    )


def resample(groups: int, samples: int, seed: int) -> NDArray[np.float64]:
    """``(samples, groups)``: how often each group is drawn, ``groups`` draws with replacement."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(groups, size=(samples, groups))
    counts = np.stack([np.bincount(row, minlength=groups) for row in draws])
    return counts.astype(np.float64)


def _by_group(statistics: Statistics, members: NDArray[np.int64], groups: int) -> Statistics:
    summed = np.zeros((groups, statistics.shape[1]))
    np.add.at(summed, members, statistics)
    return summed


def _scores(
    metric: Metric, statistics: Statistics, draws: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.array([metric.combine(total) for total in draws @ statistics])
