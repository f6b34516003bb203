"""What the tests of ctc_shrink share."""

from __future__ import annotations

import torch

REDUCE = ("first", "mean", "weighted")
BLANKS = ("drop", "merge")
OPTIONS = [(reduce, blanks) for reduce in REDUCE for blanks in BLANKS]


def peaky(batch: int, frames: int, size: int, blank: int = 0, seed: int = 0) -> torch.Tensor:
    """Logits as a trained CTC layer gives them: mostly blank, some runs and repeats."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, frames, size, generator=generator, dtype=torch.float64)
    label = torch.randint(0, size, (batch, frames), generator=generator)
    keep = torch.rand(batch, frames, generator=generator) < 0.4
    label = torch.where(keep, label, blank)
    label = torch.where(
        torch.rand(batch, frames, generator=generator) < 0.4, label.roll(1, 1), label
    )
    return scores + 6.0 * torch.nn.functional.one_hot(label, size)
