"""What models that read samples share: sizes by name, and what they refuse to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stk.config.named import find_named
from stk.config.strict import build, to_plain
from stk.data.batch import Source
from stk.errors import StkError
from stk.modules.wave_encoder import LARGE, WaveShape

TINY_CONVOLUTIONS = ((48, 10, 5), *((64, 3, 2),) * 4, *((96, 2, 2),) * 2)

# Few and wide ones: the first hears 5 ms at once.
WIDE_CONVOLUTIONS = ((96, 80, 20), (160, 8, 4), *((160, 4, 2),) * 2)

TINY: dict[str, Any] = {
    "layers": 3,
    "width": 128,
    "ffn": 512,
    "heads": 4,
    "convolutions": TINY_CONVOLUTIONS,
    "layer_drop": 0.0,
    "position_kernel": 32,
    "position_groups": 8,
}

WAVE_PRESETS: dict[str, dict[str, Any]] = {
    "base": {},
    "large": to_plain(LARGE),
    "tiny": TINY,
    "tiny_wide": {
        **TINY,
        "convolutions": WIDE_CONVOLUTIONS,
        "norm": "pre",
        "extractor_norm": "layer",
    },
}
"""Sizes of wave encoders: BASE and LARGE of wav2vec 2.0, and two for two CPU cores: ``tiny`` with
the norms of BASE, ``tiny_wide`` with those of LARGE and few, wide convolutions, which learns more
from an hour or two of sound."""


def wave_shape(keys: Mapping[str, Any]) -> WaveShape:
    """The sizes that a configuration's key ``wave`` names: at will ``preset``, and single keys.

    Raises:
        StkError: unknown preset or key, or a wrong value.
    """
    plain = {key: value for key, value in keys.items() if key != "preset"}
    if keys.get("preset") is not None:
        plain = {**find_named("wave preset", keys["preset"], WAVE_PRESETS), **plain}
    return build(WaveShape, plain, where="model.wave")


def need_waveform(name: str, feature_dim: int | None) -> None:
    """Raise unless the run's features are samples.

    Raises:
        StkError: there are no features, or they are filterbanks.
    """
    if feature_dim != 1:
        raise StkError(f"{name} reads samples", mend="set features: {kind: waveform}")


def samples_of(name: str, source: Source) -> tuple[Tensor, Tensor]:
    """Samples ``(B, N)`` and lengths of a source.

    Raises:
        StkError: it is text.
        ValueError: it holds frames.
    """
    if source.is_text:
        raise StkError(
            f"{name} reads sound alone, and was given text",
            mend="set the stream's source: audio, or use a model that reads both, such as xstnet",
        )
    if source.data.dim() != 2:
        raise ValueError(f"{name} encodes samples (B, N), not frames")
    return source.data, source.lengths
