"""How far a run is: the counters a checkpoint keeps."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Counters of a run, the same in every process except for ``seconds``.

    Attributes:
        update: updates done, skipped ones included.
        micro_step: micro-steps done, which is where the loader goes on.
        skipped: updates skipped since a loss or gradient was not finite.
        skipped_in_row: those of them just now.
        seconds: spent training, over all calls.
        scores: update -> validation score of the checkpoints that stay as best.
        best: best validation score so far.
        stale: validations since.
    """

    update: int = 0
    micro_step: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    seconds: float = 0.0
    scores: dict[int, float] = field(default_factory=dict)
    best: float | None = None
    stale: int = 0

    def judged(self, score: float, *, higher_is_better: bool) -> None:
        """Note a validation's score; one that is not finite is never the best."""
        better = self.best is None or (score > self.best if higher_is_better else score < self.best)
        if better and math.isfinite(score):
            self.best, self.stale = score, 0
        else:
            self.stale += 1

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)
