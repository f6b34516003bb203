"""What the tests of gumbel_vq share."""

from __future__ import annotations

import torch

SEEDS = {"seed": 5, "offset": 3}


def scalars(tau: float, seed: int, offset: int) -> tuple[torch.Tensor, ...]:
    return torch.tensor(tau), torch.tensor(seed), torch.tensor(offset)
