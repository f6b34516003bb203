"""The parts of a run's configuration that say how parameters start, move and are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


def check_regex(key: str, pattern: str) -> None:
    """Raise ValueError, which names ``key``, unless ``pattern`` is a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key}: {pattern!r} is no regular expression: {error}") from error


def check_points(key: str, points: tuple[tuple[int, float], ...], *, empty: bool = False) -> None:
    """Raise ValueError, which names ``key``, unless updates rise from point to point."""
    updates = [update for update, _ in points]
    if (not points and not empty) or sorted(set(updates)) != updates:
        raise ValueError(f"{key}: give [[update, value], ...] in rising order of updates")


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Copy components of another run's model before training, strictly.

    ``components`` maps a component of this model to one of the checkpoint's model by dotted
    prefix, such as ``{encoder: encoder}``; every tensor below the prefix must be found with the
    same shape. ``views`` names vocabularies that must be identical id for id; None (the default)
    means every view that has as many entries as some copied table has rows. Tensors of this model
    whose names match ``spare`` (a regular expression, searched) stay as they are.
    """

    checkpoint: str
    components: dict[str, str]
    views: tuple[str, ...] | None = None
    spare: str | None = None

    def __post_init__(self) -> None:
        if not self.components:
            raise ValueError("components: name at least one, such as {encoder: encoder}")


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Parameters whose names match ``pattern`` (a regular expression, searched) do not train.

    Those that match ``spare`` as well are left alone. Updates 1 to ``until`` leave the parameters
    as they are, later ones train them (None: none does). ``eval_mode`` also switches off dropout
    in the modules that hold nothing but frozen parameters.
    """

    pattern: str
    spare: str | None = None
    until: int | None = None
    eval_mode: bool = True

    def __post_init__(self) -> None:
        check_regex("pattern", self.pattern)
        if self.spare is not None:
            check_regex("spare", self.spare)
        if self.until is not None and self.until < 1:
            raise ValueError("until must be at least 1 (None: for the whole run)")


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Parameters whose names match ``pattern`` get their own rate and decay; the first match wins.

    The group's learning rate is the schedule's times ``lr_scale`` times ``rate``, which is given
    as ``[[update, factor], ...]``, linear in between: ``[[0, 0], [10000, 1], [20000, 0]]`` is the
    rise and fall of the pre-trained parameters in CTNMT (Yang et al., 2020).
    """

    pattern: str
    lr_scale: float = 1.0
    weight_decay: float | None = None
    rate: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        check_regex("pattern", self.pattern)
        check_points("rate", self.rate, empty=True)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser; ``lr`` is the peak rate, which the schedule scales. ``clip`` bounds the norm.

    ``weight_decay`` is decoupled with ``adamw`` (Loshchilov and Hutter, 2019), which is what
    fairseq and BERT mean by Adam with decay. With ``adam`` it is an L2 term of the gradient, which
    Adam scales up wherever the loss has small gradients.
    """

    name: Literal["adam", "adamw"] = "adam"
    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float | None = 10.0
    groups: tuple[GroupConfig, ...] = ()

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.eps <= 0 or self.weight_decay < 0:
            raise ValueError("lr and eps must be above 0, weight_decay not below")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        if self.clip is not None and self.clip <= 0:
            raise ValueError("clip must be above 0 (null: no clipping)")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate of update ``t`` (counted from 1), relative to ``optim.lr``.

    ``inverse_sqrt``: linear warm-up, then sqrt(warmup / t). ``noam``: the same shape as Vaswani
    et al. (2017) write it, ``width^-0.5 min(t^-0.5, t warmup^-1.5)``, where ``optim.lr`` is their
    factor. ``tri_stage`` (Park et al., 2019): a linear rise from ``initial``, a hold, an
    exponential fall to ``final``, of which ``stages`` gives the shares of ``total``; ``warmup`` is
    not used. ``cosine``, ``polynomial`` (of degree ``power``): linear warm-up, then a decay to
    ``final`` at ``total``. ``constant``: warm-up alone. ``initial`` and ``final`` are shares of
    ``optim.lr``.
    """

    name: Literal["inverse_sqrt", "noam", "tri_stage", "cosine", "polynomial", "constant"] = (
        "inverse_sqrt"
    )
    warmup: int = 10000
    total: int | None = None
    stages: tuple[float, float, float] = (0.1, 0.4, 0.5)
    power: float = 1.0
    initial: float = 0.0
    final: float = 0.0
    width: int | None = None

    def __post_init__(self) -> None:
        if self.name in ("tri_stage", "cosine", "polynomial") and self.total is None:
            raise ValueError(f"schedule {self.name} needs total (updates)")
        if self.name in ("inverse_sqrt", "noam") and self.warmup < 1:
            raise ValueError(f"schedule {self.name} needs warmup of at least 1")
        if (self.name == "noam") != (self.width is not None):
            raise ValueError("schedule noam and width (the model's) go together")
        if self.name in ("cosine", "polynomial") and not 0 <= self.warmup < (self.total or 0):
            raise ValueError("warmup must lie below total")
        if self.name == "tri_stage":
            if abs(sum(self.stages) - 1.0) > 1e-6 or min(self.stages) < 0:
                raise ValueError("stages are three shares that sum to 1")
            if not 0.0 < self.final <= 1.0:
                raise ValueError("schedule tri_stage needs final in (0, 1], such as 0.05")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """A checkpoint every ``every`` updates; the last ``keep_last`` and best ``keep_best`` stay."""

    every: int = 1000
    keep_last: int = 10
    keep_best: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep_last < 1 or self.keep_best < 0:
            raise ValueError("every and keep_last must be at least 1, keep_best at least 0")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Length, precision and machinery of a run. It ends at the first limit reached.

    ``max_minutes`` counts the time of all calls that continued the run. ``accumulate`` micro-steps
    make an update. ``precision: auto`` is bf16 autocast on a GPU, fp32 on the CPU. ``strategy``
    says how several processes share the work: ``ddp`` (also ``auto``) gives each the whole model,
    ``fsdp`` a share of it; one process needs neither. ``compile`` compiles every layer with
    torch.compile. ``threads`` is PyTorch's number of threads (None: left as it is). The run stops
    with an error after ``max_skips`` updates in a row whose gradient was not finite.
    """

    max_updates: int
    max_epochs: int | None = None
    max_minutes: float | None = None
    accumulate: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    activation_checkpointing: bool = False
    compile: bool = False
    workers: int = 1
    threads: int | None = None
    log_every: int = 50
    worst_batch_first: bool = True
    skip_bad: bool = False
    max_skips: int = 20

    def __post_init__(self) -> None:
        for name in ("max_updates", "accumulate", "log_every", "max_skips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("max_epochs", "max_minutes", "threads"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0 (null: no limit)")
        if self.workers < 0:
            raise ValueError("workers must not be negative (0: load in the training process)")
