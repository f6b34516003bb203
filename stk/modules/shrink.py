"""CTC shrinking as a layer between an acoustic and a semantic encoder."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn

from stk.ops import ctc_shrink


class ShrinkOutput(NamedTuple):
    """What :class:`CtcShrink` returns."""

    states: Tensor
    """``(B, R, D)``, dtype of the input states; R is the longest new length of the batch."""
    lengths: Tensor
    """``(B,)`` int64: segments per clip."""
    segments: Tensor
    """``(B, T)`` int64: the segment of every frame, -1 for dropped and padded frames."""


class CtcShrink(nn.Module):
    """One vector per run of equal CTC labels, trimmed to the longest clip of the batch.

    Trimming reads the new lengths on the host: this is the one place in a forward pass that waits
    for the device, and it makes every layer behind it cheaper. See :func:`stk.ops.ctc_shrink` for
    the reduction itself (Dong et al., 2021; Gaido et al., 2021).

    Args:
        blank: index of the CTC blank.
        reduce: ``"first"``, ``"mean"`` or ``"weighted"`` (by the posterior of the run's label).
        blanks: ``"drop"`` or ``"merge"`` (a blank run stays as one vector).
    """

    def __init__(
        self,
        *,
        blank: int = 0,
        reduce: Literal["first", "mean", "weighted"] = "first",
        blanks: Literal["drop", "merge"] = "drop",
    ) -> None:
        super().__init__()
        self.blank, self.reduce, self.blanks = blank, reduce, blanks

    def forward(self, states: Tensor, scores_or_labels: Tensor, lengths: Tensor) -> ShrinkOutput:
        """Shrinks ``(B, T, D)`` states.

        Args:
            states: ``(B, T, D)``.
            scores_or_labels: ``(B, T, V)`` CTC logits, or ``(B, T)`` integer labels.
            lengths: ``(B,)`` int64, real frames per clip.

        Raises:
            ValueError: as :func:`stk.ops.ctc_shrink`.
        """
        out = ctc_shrink(
            states,
            scores_or_labels,
            lengths,
            blank=self.blank,
            reduce=self.reduce,
            blanks=self.blanks,
        )
        longest = int(out.lengths.max()) if out.lengths.numel() else 0
        return ShrinkOutput(out.states[:, :longest], out.lengths, out.segments)

    def extra_repr(self) -> str:
        return f"blank={self.blank}, reduce={self.reduce!r}, blanks={self.blanks!r}"
