"""Kaldi-compatible log-mel filterbank features in plain PyTorch, on any device.

Follows Kaldi's feature pipeline (Povey et al., 2011): frame, dither, remove the mean,
pre-emphasise, window, transform, sum triangles on the mel scale, take the logarithm. It computes in
fp64 whatever the waveforms' dtype, as the kernels do up to the power spectrum: an fp32 transform
puts its rounding, relative to the whole spectrum's energy, on bins that hold little of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stk.ops import _random

WINDOWS = ("povey", "hanning", "hamming", "blackman", "rectangular")
LOG_FLOOR = 1.1920928955078125e-07  # single-precision epsilon, as in Kaldi, whatever the dtype
CMVN_EPSILON = 1e-5  # added to the variance
FULL_SCALE = 32768.0  # an int16 sample x stands for x / FULL_SCALE


class FbankOutput(NamedTuple):
    """Features and how many frames of each clip are real."""

    features: Tensor
    """(B, T, M) log-mel energies, zero beyond each clip's length"""
    lengths: Tensor
    """(B,) int64 numbers of frames"""


def frame_sizes(
    sample_rate: float, frame_length: float, frame_shift: float
) -> tuple[int, int, int]:
    """(window, shift, transform) in samples; the transform is the window's next power of two."""
    window = int(sample_rate * frame_length / 1000.0)
    shift = int(sample_rate * frame_shift / 1000.0)
    return window, shift, 1 << max(window - 1, 1).bit_length()


def frame_counts(samples: Tensor, window: int, shift: int, snip_edges: bool) -> Tensor:
    """Numbers of frames in clips of ``samples`` samples, any integer tensor."""
    if not snip_edges:
        return (samples + shift // 2) // shift
    return torch.where(samples < window, 0, 1 + (samples - window) // shift)


def frame_count(samples: int, window: int, shift: int, snip_edges: bool) -> int:
    """Number of frames in one clip of ``samples`` samples."""
    if not snip_edges:
        return (samples + shift // 2) // shift
    return 0 if samples < window else 1 + (samples - window) // shift


def window_function(name: str, size: int, device: torch.device | None = None) -> Tensor:
    """(size,) fp64 values of Kaldi's window ``name``, symmetric."""
    turn = torch.arange(size, dtype=torch.float64, device=device) * (2.0 * math.pi / (size - 1))
    if name == "povey":
        return (0.5 - 0.5 * torch.cos(turn)) ** 0.85
    if name == "hanning":
        return 0.5 - 0.5 * torch.cos(turn)
    if name == "hamming":
        return 0.54 - 0.46 * torch.cos(turn)
    if name == "blackman":
        return 0.42 - 0.5 * torch.cos(turn) + 0.08 * torch.cos(2.0 * turn)
    return torch.ones_like(turn)


def mel_banks(num_bins: int, fft_size: int, sample_rate: float, low: float, high: float) -> Tensor:
    """(fft_size // 2 + 1, num_bins) fp64 triangles on the mel scale 1127 log(1 + f / 700).

    The Nyquist bin has no weight, as in Kaldi. ``high <= 0`` counts from the Nyquist frequency.
    """
    nyquist = 0.5 * sample_rate
    high = high if high > 0 else nyquist + high
    bottom, top = (1127.0 * math.log1p(f / 700.0) for f in (low, high))
    delta = (top - bottom) / (num_bins + 1)
    left = bottom + delta * torch.arange(num_bins, dtype=torch.float64)
    frequency = torch.arange(fft_size // 2, dtype=torch.float64) * (sample_rate / fft_size)
    mel = 1127.0 * torch.log1p(frequency / 700.0).unsqueeze(1)
    weights = torch.minimum((mel - left) / delta, (left + 2.0 * delta - mel) / delta).clamp(min=0)
    return torch.nn.functional.pad(weights, (0, 0, 0, 1))


def _frames(waves: Tensor, lengths: Tensor, window: int, shift: int, snip_edges: bool) -> Tensor:
    """(B, N) -> (B, T, window); without snip_edges the clip is mirrored about its own two ends."""
    count = frame_count(waves.shape[1], window, shift, snip_edges)
    if count == 0:
        return waves.new_zeros(waves.shape[0], 0, window)
    if snip_edges and not torch.onnx.is_in_onnx_export():  # which unfolds known sizes alone
        return waves.unfold(1, window, shift)
    first = 0 if snip_edges else shift // 2 - window // 2
    start = torch.arange(count, device=waves.device) * shift + first
    index = start.unsqueeze(1) + torch.arange(window, device=waves.device)
    if snip_edges:
        return waves[:, index]
    real = lengths.clamp(min=1).view(-1, 1, 1)
    index = torch.remainder(index, 2 * real)
    index = torch.where(index < real, index, 2 * real - 1 - index)
    batch = torch.arange(waves.shape[0], device=waves.device).view(-1, 1, 1)
    return waves[batch, index]


def _dither(frames: Tensor, amount: float, seed: Tensor, offset: Tensor) -> Tensor:
    """Add normal noise; element index = position in the dense (B, T, window) tensor of frames."""
    group = torch.arange((frames.numel() + 3) // 4, device=frames.device)
    noise = _random.normal(_random.philox(group, seed, offset), torch.float32)
    return frames + amount * noise.reshape(-1)[: frames.numel()].view_as(frames)


def _spectrum(frames: Tensor, size: int) -> Tensor:
    """(B, T, window) -> (B, T, size // 2 + 1) power; a matrix product in an ONNX export."""
    if not torch.onnx.is_in_onnx_export():
        if frames.numel() == 0:  # the library refuses to plan a transform of nothing
            return frames.new_zeros(*frames.shape[:-1], size // 2 + 1)
        transform = torch.fft.rfft(frames, n=size)
        return transform.real.square() + transform.imag.square()
    turn = torch.outer(torch.arange(frames.shape[-1]), torch.arange(size // 2 + 1)) % size
    angle = turn.to(torch.float64) * (2.0 * math.pi / size)
    real = frames @ torch.cos(angle).to(frames.dtype)
    imaginary = frames @ torch.sin(angle).to(frames.dtype)
    return real.square() + imaginary.square()


def normalise(
    features: Tensor, lengths: Tensor, cmvn: str | tuple[Tensor, Tensor] | None
) -> Tensor:
    """Subtract the mean and divide by the deviation, and zero what lies beyond each clip.

    ``cmvn``: None, "utterance" (population variance over each clip's real frames, plus
    :data:`CMVN_EPSILON`) or ``(mean, inverse standard deviation)``, each ``(M,)``.
    """
    real = torch.arange(features.shape[1], device=features.device) < lengths.unsqueeze(1)
    real = real.unsqueeze(-1)
    if isinstance(cmvn, tuple):
        mean, istd = (value.to(features) for value in cmvn)
        features = (features - mean) * istd
    elif cmvn is not None:
        count = lengths.clamp(min=1).view(-1, 1, 1).to(features.dtype)
        # Counted from the first frame, equal frames have a mean of exactly zero.
        features = features - features[:, :1]
        mean = features.masked_fill(~real, 0).sum(1, keepdim=True) / count
        centred = (features - mean).masked_fill(~real, 0)
        variance = centred.square().sum(1, keepdim=True) / count
        features = centred / torch.sqrt(variance + CMVN_EPSILON)
    return features.masked_fill(~real, 0)


def fbank(
    waveforms: Tensor,
    lengths: Tensor,
    *,
    sample_rate: float = 16000,
    num_mel_bins: int = 80,
    frame_length: float = 25.0,
    frame_shift: float = 10.0,
    window: str = "povey",
    preemphasis: float = 0.97,
    remove_dc_offset: bool = True,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    use_power: bool = True,
    snip_edges: bool = True,
    dither: float = 0.0,
    scale: float = 32768.0,
    cmvn: str | tuple[Tensor, Tensor] | None = None,
    seed: int | Tensor | None = None,
    offset: int | Tensor | None = None,
) -> FbankOutput:
    """As :func:`stk.ops.fbank`, which checks the arguments; here they are taken as right."""
    size, shift, fft_size = frame_sizes(sample_rate, frame_length, frame_shift)
    factor = scale / FULL_SCALE if waveforms.dtype == torch.int16 else scale
    dtype = torch.float64 if waveforms.dtype == torch.float64 else torch.float32
    waves = waveforms.to(torch.float64)
    lengths = lengths.clamp(0, waves.shape[1])
    counts = frame_counts(lengths, size, shift, snip_edges)
    frames = _frames(waves, lengths, size, shift, snip_edges) * factor
    if dither:
        frames = _dither(frames, dither, *_random.seed_pair(seed, offset, waves.device))
    if remove_dc_offset:
        frames = frames - frames.mean(dim=-1, keepdim=True)
    if preemphasis:
        frames = frames - preemphasis * torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
    power = _spectrum(frames * window_function(window, size, frames.device), fft_size)
    if not use_power:
        power = power.sqrt()
    banks = mel_banks(num_mel_bins, fft_size, sample_rate, low_freq, high_freq)
    features = torch.log((power @ banks.to(power.device)).clamp(min=LOG_FLOOR))
    return FbankOutput(normalise(features, counts, cmvn).to(dtype), counts)
