"""The front end: waveforms become what the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stk.config.run import AugmentConfig, FeatureConfig
from stk.data.batch import Padded, Source
from stk.errors import StkError
from stk.features.cmvn import Cmvn
from stk.features.specaugment import Policy, policy_of, specaugment_
from stk.ops import fbank

SCALE = 32768.0
"""Waveforms in [-1, 1] are scaled to the 16-bit range, as Kaldi's features expect."""

WAVEFORM_EPSILON = 1e-5
"""Added to a clip's variance where waveforms are normalised, as wav2vec 2.0 does."""


class FrontEnd:
    """Log-mel frames (or plain samples) with CMVN and SpecAugment; the same in all uses.

    A clip's features depend on the clip (and its generator) alone, never on the batch around it.

    Args:
        config: see :class:`~stk.config.run.FeatureConfig`.
        cmvn: statistics of the corpus; needed if and only if ``config.cmvn`` is ``global``.
            None reads ``config.cmvn_file``.

    Raises:
        StkError: statistics missing, not wanted, or taken over other features.
    """

    def __init__(self, config: FeatureConfig, cmvn: Cmvn | None = None) -> None:
        if config.cmvn == "global" and cmvn is None:
            assert config.cmvn_file is not None  # FeatureConfig sees to it
            cmvn = Cmvn.load(config.cmvn_file)
        if cmvn is not None:
            if config.cmvn != "global":
                raise StkError(f"CMVN statistics given, but features.cmvn is {config.cmvn}")
            cmvn.check(config, config.cmvn_file)
        self.config = config
        self.cmvn = cmvn
        self._window = int(config.sample_rate * config.frame_length / 1000)
        self._shift = int(config.sample_rate * config.frame_shift / 1000)

    @property
    def dim(self) -> int:
        """Width of a frame: ``num_mel_bins``, or 1 for waveforms."""
        return self.config.num_mel_bins if self.config.kind == "fbank" else 1

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the waveforms it takes."""
        return self.config.sample_rate

    @property
    def window(self) -> float:
        """Width of an analysis window, in frame shifts."""
        return self._window / self._shift

    def frames(self, duration: float) -> int:
        """Frames that a clip of ``duration`` seconds has (for waveforms: whole shifts)."""
        samples = round(duration * self.config.sample_rate)
        if self.config.kind == "waveform":
            return samples // self._shift
        return 0 if samples < self._window else 1 + (samples - self._window) // self._shift

    def least_samples(self, frames: int) -> int:
        """Samples that a clip of so many frames (for waveforms: whole shifts) has at least."""
        if frames < 1 or self.config.kind == "waveform":
            return frames * self._shift
        return self._window + (frames - 1) * self._shift

    def __call__(
        self,
        waveforms: Sequence[Tensor],
        rngs: Sequence[np.random.Generator] | None = None,
        augment: AugmentConfig | None = None,
    ) -> Source:
        """Features of a batch.

        Args:
            waveforms: ``(N_i,)`` float32 in [-1, 1] at ``sample_rate``.
            rngs: each clip's own generator; needed with ``augment``.
            augment: SpecAugment and dither act if it is given (training alone). Masks hold 0,
                the mean, after CMVN, and the clip's own mean without CMVN.

        Returns:
            Source: float32 ``(B, T, M)`` frames or ``(B, N)`` samples, zeros as padding.

        Raises:
            StkError: a clip shorter than one window.
        """
        if augment is not None and (rngs is None or len(rngs) != len(waveforms)):
            raise ValueError("augmentation needs one generator a clip")
        for waveform in waveforms:
            if len(waveform) < (self._window if self.config.kind == "fbank" else 1):
                raise StkError(
                    f"a clip of {len(waveform)} samples is shorter than one frame",
                    mend=f"at least {self._window} samples at {self.config.sample_rate} Hz",
                )
        generators = rngs if augment is not None and rngs is not None else None
        if self.config.kind == "waveform":
            return self._samples(waveforms)
        return self._frames(waveforms, generators, augment)

    def _samples(self, waveforms: Sequence[Tensor]) -> Source:
        rows = list(waveforms)
        if self.config.normalize_waveform:
            rows = [_standardise(row) for row in rows]
        padded = Padded.stack(rows)
        return Source(padded.data, padded.lengths)

    def _frames(
        self,
        waveforms: Sequence[Tensor],
        rngs: Sequence[np.random.Generator] | None,
        augment: AugmentConfig | None,
    ) -> Source:
        rows = list(waveforms)
        if rngs is not None and self.config.dither > 0:
            rows = [_dither(w, self.config.dither, r) for w, r in zip(rows, rngs, strict=True)]
        padded = Padded.stack(rows)
        statistics: Literal["utterance"] | tuple[Tensor, Tensor] | None = None
        if self.cmvn is not None:
            statistics = (self.cmvn.mean, self.cmvn.inverse_std)
        elif self.config.cmvn == "utterance":
            statistics = "utterance"
        features, lengths = fbank(
            padded.data,
            padded.lengths,
            sample_rate=self.config.sample_rate,
            num_mel_bins=self.config.num_mel_bins,
            frame_length=self.config.frame_length,
            frame_shift=self.config.frame_shift,
            scale=SCALE,
            cmvn=statistics,
        )
        policy = policy_of(augment) if augment is not None else None
        if policy is not None and rngs is not None:
            self._mask(features, lengths, policy, rngs)
        return Source(features, lengths)

    def _mask(
        self,
        features: Tensor,
        lengths: Tensor,
        policy: Policy,
        rngs: Sequence[np.random.Generator],
    ) -> None:
        for row, length, rng in zip(features, lengths.tolist(), rngs, strict=True):
            fill = float(row[:length].mean()) if self.config.cmvn == "none" else 0.0
            specaugment_(row, length, policy, rng, fill)


def _standardise(waveform: Tensor) -> Tensor:
    variance, mean = torch.var_mean(waveform, correction=0)
    return (waveform - mean) * torch.rsqrt(variance + WAVEFORM_EPSILON)


def _dither(waveform: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    """Gaussian noise of ``amount`` 16-bit steps; drawn per clip so that batches do not matter."""
    noise = rng.standard_normal(len(waveform), dtype=np.float32)
    return waveform + torch.from_numpy(noise) * (amount / SCALE)
