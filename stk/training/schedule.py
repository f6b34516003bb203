"""Values that change over a run: the learning rate and scheduled scalars."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence

from stk.config.run import ScheduleConfig


def factor(config: ScheduleConfig, update: int) -> float:
    """What the peak learning rate is multiplied by in one update.

    Args:
        config: the schedule.
        update: number of the update in hand, counted from 1.

    Returns:
        A factor in [0, 1], except for ``noam``, whose peak is ``(width * warmup) ** -0.5``.
    """
    if update < 1:
        raise ValueError(f"updates count from 1, got {update}")
    if config.name == "noam":
        assert config.width is not None
        return config.width**-0.5 * min(update**-0.5, update * config.warmup**-1.5)
    if config.name == "tri_stage":
        return _tri_stage(config, update)
    if update < config.warmup:
        return config.initial + (1.0 - config.initial) * update / config.warmup
    if config.name == "inverse_sqrt":
        return math.sqrt(config.warmup / update)
    if config.name == "constant":
        return 1.0
    assert config.total is not None
    done = min(1.0, (update - config.warmup) / (config.total - config.warmup))
    if config.name == "cosine":
        shape = 0.5 * (1.0 + math.cos(math.pi * done))
    else:
        shape = (1.0 - done) ** config.power
    return config.final + (1.0 - config.final) * shape


def _tri_stage(config: ScheduleConfig, update: int) -> float:
    """Linear rise, hold, exponential fall (SpecAugment's schedule; Park et al., 2019)."""
    assert config.total is not None
    rise, hold, fall = (int(config.total * share) for share in config.stages)
    if update < rise:
        return config.initial + (1.0 - config.initial) * update / rise
    if update < rise + hold:
        return 1.0
    if update < rise + hold + fall:
        return math.exp(math.log(config.final) * (update - rise - hold) / fall)
    return config.final


def interpolate(points: Sequence[tuple[int, float]], update: int) -> float:
    """The value at ``update`` of a line through ``(update, value)`` points.

    Before the first point and after the last one the value is theirs.

    Args:
        points: at least one, in rising order of updates.
        update: number of the update.
    """
    if not points:
        raise ValueError("at least one point is needed")
    after = bisect.bisect_right([at for at, _ in points], update)
    if after == 0 or after == len(points):
        return points[0 if after == 0 else -1][1]
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (update - left) / (right - left)


def scalars_at(
    schedules: Mapping[str, Sequence[tuple[int, float]]], update: int
) -> dict[str, float]:
    """Every scheduled scalar's value at ``update``, by name."""
    return {name: interpolate(points, update) for name, points in schedules.items()}
