"""SpecAugment (Park et al., 2019): masks over frequency bands and stretches of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from stk.config.run import AugmentConfig
from stk.errors import StkError


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Numbers and widest masks: ``freq_width`` in bins, ``time_width`` in frames.

    A time mask never covers more than ``time_mask_share`` of a clip. Time warping, whose gain
    the authors found small, is left out.
    """

    freq_masks: int
    freq_width: int
    time_masks: int
    time_width: int
    time_mask_share: float = 1.0


_PUBLISHED = {"lb": (1, 27, 1, 100), "ld": (2, 27, 2, 100)}


def policy_of(config: AugmentConfig) -> Policy | None:
    """The policy that a configuration asks for; None for ``none``.

    Raises:
        StkError: a negative number, or a share outside [0, 1].
    """
    if config.specaugment == "none":
        return None
    if config.specaugment == "custom":
        numbers = (config.freq_masks, config.freq_width, config.time_masks, config.time_width)
    else:
        numbers = _PUBLISHED[config.specaugment]
    if min(numbers) < 0 or not 0.0 <= config.time_mask_share <= 1.0:
        raise StkError("augment: mask numbers must be >= 0 and time_mask_share within [0, 1]")
    freq_masks, freq_width, time_masks, time_width = numbers
    return Policy(
        freq_masks=freq_masks,
        freq_width=freq_width,
        time_masks=time_masks,
        time_width=time_width,
        time_mask_share=config.time_mask_share,
    )


def specaugment_(
    features: Tensor, length: int, policy: Policy, rng: np.random.Generator, fill: float = 0.0
) -> None:
    """Mask one clip in place; padding is never touched.

    Every mask's width is uniform over 0 to its widest, its place uniform over where it fits.

    Args:
        features: ``(T, M)`` frames.
        length: real frames; masks lie within them.
        policy: numbers and widths.
        rng: the row's own generator.
        fill: what masked cells hold; 0.0 is the mean after CMVN.
    """
    bins = features.shape[1]
    for _ in range(policy.freq_masks):
        width = int(rng.integers(0, min(policy.freq_width, bins) + 1))
        low = int(rng.integers(0, bins - width + 1))
        features[:length, low : low + width] = fill
    widest = min(policy.time_width, int(length * policy.time_mask_share))
    for _ in range(policy.time_masks):
        width = int(rng.integers(0, widest + 1))
        begin = int(rng.integers(0, length - width + 1))
        features[begin : begin + width] = fill
