"""Bad input on the device where a test wants it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def beside(device: torch.device, value: Any) -> Any:
    """``value`` with its tensors on ``device``, in tuples too; those on "meta" stay there."""
    if isinstance(value, tuple):
        return tuple(beside(device, part) for part in value)
    if isinstance(value, Tensor) and value.device.type != "meta":
        return value.to(device)
    return value
