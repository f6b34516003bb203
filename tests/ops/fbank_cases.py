"""Signals, options and comparisons that the tests of fbank share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from stk.ops.reference.fbank import WINDOWS, FbankOutput

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-9}


def speech(seconds: float, seed: int = 0, rate: int = 16000) -> Tensor:
    """(N,) voiced stretches with formants and a moving pitch, between near-silent gaps."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    pitch = 120.0 + 30.0 * torch.sin(2 * math.pi * 0.7 * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / rate
    wave = torch.zeros_like(time)
    for harmonic in range(1, 40):
        frequency = 120.0 * harmonic
        gain = sum(1.0 / (1.0 + ((frequency - f) / 90.0) ** 2) for f in (600.0, 1700.0, 2600.0))
        wave += gain * torch.sin(harmonic * phase)
    loudness = torch.sin(2 * math.pi * 1.9 * time).clamp(min=0.0)
    breath = torch.randn(time.numel(), generator=generator, dtype=torch.float64)
    return (0.1 * wave * loudness + 1e-4 * breath).float()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def assert_same(got: FbankOutput, expected: FbankOutput, tolerance: float) -> None:
    assert got.features.dtype == expected.features.dtype
    assert torch.equal(got.lengths, expected.lengths)
    torch.testing.assert_close(got.features, expected.features, atol=tolerance, rtol=0)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_mel_bins": 23},
    {"sample_rate": 8000, "num_mel_bins": 40},
    {"sample_rate": 22050},
    {"sample_rate": 44100, "frame_length": 40.0},
    {"frame_length": 3.0, "frame_shift": 2.0, "num_mel_bins": 5},
    {"low_freq": 60.0, "high_freq": 7000.0},
    {"high_freq": -400.0},
    {"preemphasis": 0.0},
    {"remove_dc_offset": False},
    {"use_power": False},
    {"snip_edges": False},
    {"snip_edges": False, "sample_rate": 11025, "num_mel_bins": 30},
    *({"window": name} for name in WINDOWS if name != "povey"),
]


def arguments(wave: Tensor, lengths: Tensor, **options: Any) -> tuple[tuple[Any, ...], dict]:
    """Arguments of the bare operator."""
    defaults: dict[str, Any] = {
        "sample_rate": 16000.0, "num_mel_bins": 80, "frame_length": 25.0, "frame_shift": 10.0,
        "window": "povey", "preemphasis": 0.97, "remove_dc_offset": True, "low_freq": 20.0,
        "high_freq": 0.0, "use_power": True, "snip_edges": True, "dither": 0.0, "scale": 32768.0,
        "cmvn_utterance": False,
    }  # fmt: skip
    seed = torch.tensor(1)
    return (wave, lengths, None, None, seed, seed), defaults | options
