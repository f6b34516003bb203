"""The configuration of one run: everything ``stk-train`` reads from a YAML file.

Parts whose keys depend on a name (models, objectives, hooks) stay plain mappings here, since this
package imports nothing else of stk; their registries turn them into dataclasses of their own,
as strictly (:func:`stk.config.strict.build`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stk.config.training import (
    CheckpointConfig,
    FreezeConfig,
    GroupConfig,
    InitConfig,
    OptimConfig,
    ScheduleConfig,
    TrainingConfig,
    check_points,
)

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "CheckpointConfig",
    "DecodeConfig",
    "FeatureConfig",
    "FreezeConfig",
    "GroupConfig",
    "InitConfig",
    "MixingConfig",
    "Named",
    "OptimConfig",
    "RunConfig",
    "ScheduleConfig",
    "StreamConfig",
    "TrainingConfig",
    "ValidationConfig",
]

Named = dict[str, Any]
"""A mapping with the key ``name`` (looked up in a registry) and that entry's own keys."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """How a waveform (16 kHz, mono) becomes what the model reads.

    ``kind: fbank`` gives ``(B, T, num_mel_bins)`` log-mel frames every ``frame_shift`` ms;
    ``kind: waveform`` hands on the samples ``(B, N)``.
    """

    kind: Literal["fbank", "waveform"] = "fbank"
    sample_rate: int = 16000
    num_mel_bins: int = 80
    frame_length: float = 25.0
    frame_shift: float = 10.0
    dither: float = 0.0
    cmvn: Literal["none", "utterance", "global"] = "utterance"
    cmvn_file: str | None = None
    normalize_waveform: bool = False
    channel: Literal["mean", "loudest", "first"] = "mean"

    def __post_init__(self) -> None:
        if (self.cmvn == "global") != (self.cmvn_file is not None):
            raise ValueError("cmvn: global and cmvn_file go together (stk-data cmvn writes it)")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of one stream's training examples; nothing of it acts in validation.

    ``speed`` lists factors drawn uniformly. ``specaugment`` is ``none``, a published policy
    (``lb``: one frequency mask F=27 and one time mask T=100; ``ld``: two of each, Park et al.,
    2019) or ``custom`` with the four numbers below. A time mask never covers more than
    ``time_mask_share`` of a clip. A model with a wave encoder has ``wave_mask_share`` of its steps
    in spans of ``wave_mask_length`` replaced by the vector that it was pre-trained with (Baevski
    et al., 2020); clips too short for two spans are left whole.
    """

    speed: tuple[float, ...] = ()
    specaugment: Literal["none", "lb", "ld", "custom"] = "none"
    freq_masks: int = 0
    freq_width: int = 0
    time_masks: int = 0
    time_width: int = 0
    time_mask_share: float = 1.0
    wave_mask_share: float = 0.0
    wave_mask_length: int = 10

    def __post_init__(self) -> None:
        if not 0.0 <= self.wave_mask_share < 1.0 or self.wave_mask_length < 1:
            raise ValueError("wave_mask_share must lie in [0, 1), wave_mask_length be at least 1")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Bounds of one batch; at least one must be given.

    ``max_frames`` bounds padded 10 ms frames (batch size times longest clip), ``max_tokens``
    padded tokens of the longer text side. All are hard: an example that alone exceeds one is
    left out, counted and listed before the first step. ``multiple`` rounds batch sizes down.
    """

    max_frames: int | None = None
    max_tokens: int | None = None
    max_examples: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.max_frames is None and self.max_tokens is None and self.max_examples is None:
            raise ValueError("one of max_frames, max_tokens, max_examples is needed")


@dataclass(frozen=True, kw_only=True)
class StreamConfig:
    """Manifests, one objective over them, and their share of the run.

    ``group_by`` names Example fields (and ``fields`` for the set of fields present) that are
    equal within a batch. ``min_frames``/``max_frames`` bound a clip in 10 ms frames. ``augment``
    is the run's where a stream has none of its own.
    """

    name: str
    manifests: tuple[str, ...]
    objective: Named
    batch: BatchConfig
    weight: float = 1.0
    augment: AugmentConfig | None = None
    group_by: tuple[str, ...] = ()
    min_frames: int = 5
    max_frames: int = 3000
    max_tokens: int = 1024


@dataclass(frozen=True, kw_only=True)
class MixingConfig:
    """How the next micro-step's stream is drawn: alike, by weight, or by size^(1/temperature)."""

    rule: Literal["uniform", "weight", "temperature"] = "weight"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError("temperature must be above 0")


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Beam search, see :mod:`stk.decoding.beam`, or sampling, see :mod:`stk.decoding.sampling`.

    The score of a finished hypothesis is ``sum log p / length ** length_penalty``, the end symbol
    counted as written. At most ``max_ratio`` times encoder states plus ``max_extra`` tokens are
    written, never more than ``max_length``; at least ``min_length``, unless the limit is lower.
    ``ctc_weight`` mixes in CTC prefix scores (Watanabe et al., 2017). ``search: ctc`` takes the
    best path of the CTC head instead, and reads none of the above.

    ``search: sample`` draws ``nbest`` outputs from the model's distribution: log-probabilities over
    ``temperature``, with ``top_k`` only the k most probable tokens (0: all). Draws follow from
    ``seed`` and a row's id alone. It has no ``beam``.
    """

    search: Literal["beam", "ctc", "sample"] = "beam"
    beam: int = 5
    nbest: int = 1
    length_penalty: float = 1.0
    max_ratio: float = 1.0
    max_extra: int = 50
    max_length: int = 512
    min_length: int = 0
    ctc_weight: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    seed: int = 1
    batch: BatchConfig = field(
        default_factory=lambda: BatchConfig(max_frames=40000, max_tokens=8000)
    )

    def __post_init__(self) -> None:
        sampled = self.search == "sample"
        if self.nbest < 1 or (self.nbest > self.beam and not sampled):
            raise ValueError("nbest must lie between 1 and beam")
        if not sampled and (self.temperature, self.top_k, self.seed) != (1.0, 0, 1):
            raise ValueError("temperature, top_k and seed are of search: sample")
        if sampled and self.ctc_weight > 0:
            raise ValueError("search: sample draws from the decoder alone; set ctc_weight to 0")
        if not 0.0 < self.temperature < float("inf") or self.top_k < 0 or self.seed < 0:
            raise ValueError("temperature must be above 0, top_k and seed at least 0")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ValueError("ctc_weight must lie between 0 and 1")
        if self.max_length < 1 or self.min_length < 0:
            raise ValueError("max_length must be at least 1, min_length at least 0")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """When and by what a run is judged; nothing is judged without ``streams`` and without
    ``decode_manifest``.

    ``by: loss`` uses the validation streams' combined loss; ``bleu``, ``chrf`` (higher is better)
    and ``wer`` (lower is better) decode ``decode_manifest`` with the first stream's task.
    ``patience`` counts validations without a new best before the run stops.
    """

    streams: tuple[StreamConfig, ...] = ()
    every: int = 1000
    by: Literal["loss", "bleu", "chrf", "wer"] = "loss"
    decode_manifest: str | None = None
    decode_examples: int | None = None
    decode: DecodeConfig = field(default_factory=lambda: DecodeConfig(beam=1))
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.by != "loss" and self.decode_manifest is None:
            raise ValueError(f"validation by {self.by} needs decode_manifest")
        if self.by == "loss" and self.decode_manifest is not None and not self.streams:
            raise ValueError("validation by loss needs streams")
        if self.patience is not None and not (self.streams or self.decode_manifest):
            raise ValueError("patience needs something to validate: streams or decode_manifest")
        if self.every < 1 or (self.patience is not None and self.patience < 1):
            raise ValueError("every and patience must be at least 1")
        names = [stream.name for stream in self.streams]
        if len(set(names)) != len(names):
            raise ValueError("streams: names must differ")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to validate."""
        return bool(self.streams) or self.decode_manifest is not None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One ``stk-train`` call.

    ``vocabularies`` maps view names (``src``, ``tgt``, ``ctc``, ``bert`` ...) to saved vocabulary
    directories. ``helpers`` maps names to checkpoints whose frozen models objectives may use.
    ``sidecars`` maps names to directories of per-row tensors. ``scalars`` maps names to
    schedules ``[[update, value], ...]``, linear in between, for weights and temperatures.
    ``augment`` is of all streams that state none.
    """

    output: str
    model: Named
    vocabularies: dict[str, str]
    streams: tuple[StreamConfig, ...]
    training: TrainingConfig
    seed: int = 1
    features: FeatureConfig | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    helpers: dict[str, str] = field(default_factory=dict)
    sidecars: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    init_from: tuple[InitConfig, ...] = ()
    freeze: tuple[FreezeConfig, ...] = ()
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hooks: tuple[Named, ...] = ()

    def __post_init__(self) -> None:
        if not self.streams:
            raise ValueError("streams: at least one is needed")
        object.__setattr__(self, "streams", tuple(map(self._augmented, self.streams)))
        for name, points in self.scalars.items():
            check_points(f"scalars.{name}", points)
        names = [stream.name for stream in self.streams]
        if len(set(names)) != len(names):
            raise ValueError("streams: names must differ")

    def _augmented(self, stream: StreamConfig) -> StreamConfig:
        return replace(stream, augment=self.augment) if stream.augment is None else stream
