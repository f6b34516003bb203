"""Cepstral mean and variance normalisation with statistics of a whole corpus."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stk.config.run import FeatureConfig
from stk.errors import StkError

VARIANCE_FLOOR = 1e-10
"""A bin whose variance over the corpus lies below this would be blown up; it is floored."""


def fingerprint(config: FeatureConfig) -> str:
    """The settings that features must share with statistics taken over them, as one JSON text."""
    names = ("kind", "sample_rate", "num_mel_bins", "frame_length", "frame_shift")
    return json.dumps({name: getattr(config, name) for name in names}, sort_keys=True)


@dataclass(frozen=True)
class Cmvn:
    """Mean and inverse standard deviation of every bin.

    Attributes:
        mean: ``(M,)`` float32.
        inverse_std: ``(M,)`` float32, positive.
        frames: number of frames they were taken over.
        made_with: :func:`fingerprint` of the features.
    """

    mean: Tensor
    inverse_std: Tensor
    frames: int
    made_with: str

    @property
    def digest(self) -> str:
        """Hexadecimal, of the statistics."""
        values = torch.cat([self.mean, self.inverse_std]).numpy()
        return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()

    def apply(self, features: Tensor) -> Tensor:
        """``(features - mean) * inverse_std`` for ``(..., M)``."""
        return (features - self.mean) * self.inverse_std

    def check(self, config: FeatureConfig, file: str | Path | None = None) -> None:
        """Raise StkError unless these statistics were taken over such features."""
        if self.made_with != fingerprint(config):
            raise StkError(
                f"CMVN was computed over other features: {self.made_with}",
                file=file,
                mend=f"run stk-data cmvn with {fingerprint(config)}",
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        from stk.data.atomic import write_bytes

        tensors = {"mean": self.mean.contiguous(), "inverse_std": self.inverse_std.contiguous()}
        metadata = {"made_with": self.made_with, "frames": str(self.frames)}
        write_bytes(path, save(tensors, metadata))

    @staticmethod
    def load(path: str | Path) -> Cmvn:
        """Read what :meth:`save` wrote.

        Raises:
            StkError: missing file, or not a CMVN file.
        """
        if not Path(path).is_file():
            raise StkError("no such CMVN file", file=path, mend="stk-data cmvn writes it")
        try:
            with safe_open(str(path), framework="pt") as stored:
                metadata = stored.metadata() or {}
                return Cmvn(
                    mean=stored.get_tensor("mean"),
                    inverse_std=stored.get_tensor("inverse_std"),
                    frames=int(metadata["frames"]),
                    made_with=metadata["made_with"],
                )
        except (SafetensorError, KeyError) as error:
            raise StkError(
                f"not a CMVN file: {error}", file=path, mend="stk-data cmvn writes it"
            ) from None


class CmvnAccumulator:
    """Running mean and variance in float64, stable for any number of frames.

    Pairwise update of Chan, Golub and LeVeque (1979).

    Args:
        dim: bins M.
    """

    def __init__(self, dim: int) -> None:
        self.frames = 0
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._squares = torch.zeros(dim, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in the frames ``(T, M)`` of one clip."""
        count = len(features)
        if count == 0:
            return
        x = features.double()
        mean = x.mean(0)
        squares = (x - mean).square().sum(0)
        delta = mean - self._mean
        total = self.frames + count
        self._squares += squares + delta.square() * (self.frames * count / total)
        self._mean += delta * (count / total)
        self.frames = total

    def result(self, config: FeatureConfig) -> Cmvn:
        """The statistics (population variance).

        Raises:
            StkError: fewer than two frames were added.
        """
        if self.frames < 2:
            raise StkError("CMVN needs at least two frames", mend="give a manifest with sound")
        variance = (self._squares / self.frames).clamp_min(VARIANCE_FLOOR)
        return Cmvn(
            mean=self._mean.float(),
            inverse_std=variance.rsqrt().float(),
            frames=self.frames,
            made_with=fingerprint(config),
        )
