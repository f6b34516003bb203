"""Speed perturbation (Ko et al., 2015): tempo and pitch change together."""

from __future__ import annotations

import numpy as np
import soxr
import torch
from torch import Tensor

from stk.errors import StkError


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play ``(N,)`` float32 samples ``factor`` times as fast.

    Returns:
        ``(round(N / factor),)`` float32 at the same sample rate; factor 1 returns the input.

    Raises:
        StkError: a factor outside [0.5, 2].
    """
    check_factor(factor)
    if factor == 1.0:
        return waveform
    wanted = max(1, round(len(waveform) / factor))
    changed = soxr.resample(waveform.numpy(), factor, 1.0, quality="MQ")[:wanted]
    return torch.from_numpy(np.pad(changed, (0, wanted - len(changed))))


def check_factor(factor: float) -> None:
    """Raise StkError unless the factor lies within [0.5, 2]."""
    if not 0.5 <= factor <= 2.0:
        raise StkError(f"speed factor {factor} is outside 0.5 to 2", mend="use 0.9, 1.0, 1.1")
