"""Kaldi-compatible log-mel filterbank features in one pass over the waveforms."""

from __future__ import annotations

import torch
from torch import Tensor

from stk.ops import _library, _random
from stk.ops.reference import fbank as _reference
from stk.ops.reference.fbank import CMVN_EPSILON, WINDOWS, FbankOutput, frame_count, frame_sizes

__all__ = ["CMVN_EPSILON", "WINDOWS", "FbankOutput", "fbank"]

_MAX_FFT = 8192
Cmvn = str | tuple[Tensor, Tensor] | None


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
    cmvn: Cmvn = None,
    seed: int | Tensor | None = None,
    offset: int | Tensor | None = None,
) -> FbankOutput:
    """Log-mel filterbank features as Kaldi computes them (Povey et al., 2011), in one pass.

    Forward only: waveforms that require a gradient are an error. Autocast does not touch it.

    Args:
        waveforms: (B, N) padded samples, int16, fp32 or fp64, on the CPU or a CUDA device.
            Floating-point samples are in [-1, 1]; an int16 sample x stands for x / 32768. What
            lies beyond a clip's length is never read into its features.
        lengths: (B,) int64 numbers of real samples, 0 to N, on the same device.
        sample_rate: samples per second.
        num_mel_bins: M, triangles between ``low_freq`` and ``high_freq``, evenly spaced in mel.
        frame_length: window in milliseconds; the transform has the next power of two samples (at
            most 8192).
        frame_shift: milliseconds from one frame to the next.
        window: "povey", "hanning", "hamming", "blackman" or "rectangular".
        preemphasis: c of x[n] - c x[n - 1], 0 to 1.
        remove_dc_offset: subtract each frame's mean before pre-emphasis.
        low_freq: lower edge of the first triangle in Hz.
        high_freq: upper edge of the last in Hz; zero or less counts from half the sample rate.
        use_power: sum power (True) or magnitude (False).
        snip_edges: only frames that lie inside the clip, ``1 + (n - window) // shift``; False
            mirrors the clip about its ends and gives ``round(n / shift)`` frames.
        dither: standard deviation of normal noise added to every sample of every frame, in scaled
            units (Kaldi's default is 1.0 where ``scale`` is 32768). The noise's element index is
            that of the sample in a dense (B, T, window) tensor.
        scale: multiplies the samples; 32768 gives Kaldi's 16-bit range.
        cmvn: None; "utterance" (zero mean and unit population variance per clip and bin over its
            real frames; 1e-5 is added to the variance); or ``(mean, inverse standard deviation)``,
            each (M,).
        seed, offset: of the dither; numbers or 0-dim int64 tensors. None for ``seed`` draws from
            torch's generator.

    Returns:
        FbankOutput: ``features`` (B, T, M), fp64 for fp64 waveforms and fp32 otherwise, T the
        number of frames in N samples, zero beyond each clip; ``lengths`` (B,) int64.

    Raises:
        ValueError: a shape, size, option or (on the CPU, or under STK_CHECK=1) length that is not
            as above.
        TypeError: a dtype that is not as above.
    """
    sizes = frame_sizes(sample_rate, frame_length, frame_shift)
    _check_options(
        sizes, sample_rate, num_mel_bins, window, preemphasis, low_freq, high_freq, dither, scale
    )
    _check_inputs(waveforms, lengths, cmvn, num_mel_bins)
    kernel = _library.kernels_on(waveforms.device)
    # The CPU kernel looks at the lengths itself.
    if _library.CHECK or not (kernel or waveforms.is_cuda):
        _check_lengths(lengths, waveforms.shape[1])
    if not kernel:
        with torch.autocast(waveforms.device.type, enabled=False):
            return _reference.fbank(
                waveforms, lengths, sample_rate=sample_rate, num_mel_bins=num_mel_bins,
                frame_length=frame_length, frame_shift=frame_shift, window=window,
                preemphasis=preemphasis, remove_dc_offset=remove_dc_offset, low_freq=low_freq,
                high_freq=high_freq, use_power=use_power, snip_edges=snip_edges, dither=dither,
                scale=scale, cmvn=cmvn, seed=seed, offset=offset,
            )  # fmt: skip
    mean, istd = cmvn if isinstance(cmvn, tuple) else (None, None)
    # Without dither nothing is drawn, so torch's generator stays where it is.
    pair = _random.seed_pair(seed if dither else 0, offset, waveforms.device)
    features, frames = torch.ops.stk.fbank(
        waveforms, lengths, mean, istd, *pair, sample_rate=float(sample_rate),
        num_mel_bins=num_mel_bins, frame_length=frame_length, frame_shift=frame_shift,
        window=window, preemphasis=preemphasis, remove_dc_offset=remove_dc_offset,
        low_freq=low_freq, high_freq=high_freq, use_power=use_power, snip_edges=snip_edges,
        dither=dither, scale=scale, cmvn_utterance=isinstance(cmvn, str),
    )  # fmt: skip
    return FbankOutput(features, frames)


def _check_options(
    sizes: tuple[int, int, int],
    sample_rate: float,
    num_mel_bins: int,
    window: str,
    preemphasis: float,
    low_freq: float,
    high_freq: float,
    dither: float,
    scale: float,
) -> None:
    size, shift, fft_size = sizes
    nyquist = 0.5 * sample_rate
    top = high_freq if high_freq > 0 else nyquist + high_freq
    # Text is put together only for a failure: torch.compile cannot format its symbolic numbers.
    problems: tuple[tuple[bool, str, object], ...] = (
        (size >= 2, "frame_length must span at least 2 samples", size),
        (fft_size <= _MAX_FFT, "frame_length must span at most 8192 samples", size),
        (shift >= 1, "frame_shift must span at least 1 sample", shift),
        (num_mel_bins >= 1, "num_mel_bins must be at least 1", num_mel_bins),
        (window in WINDOWS, f"window must be one of {', '.join(WINDOWS)}", window),
        (0.0 <= preemphasis <= 1.0, "preemphasis must lie in [0, 1]", preemphasis),
        (0.0 <= low_freq < top, "low_freq must lie in [0, high_freq)", low_freq),
        (top <= nyquist, "high_freq must not be above half the sample rate", top),
        (dither >= 0.0, "dither must not be negative", dither),
        (0.0 < scale < float("inf"), "scale must be positive and finite", scale),
    )
    for holds, rule, value in problems:
        if not holds:
            raise ValueError(f"stk.ops.fbank: {rule}, not {value}")


def _check_inputs(waveforms: Tensor, lengths: Tensor, cmvn: Cmvn, num_mel_bins: int) -> None:
    shape = tuple(waveforms.shape)
    if waveforms.dim() != 2:
        raise ValueError(f"stk.ops.fbank: waveforms has shape {shape} but expected (B, N)")
    if waveforms.dtype not in (torch.int16, torch.float32, torch.float64):
        raise TypeError(
            f"stk.ops.fbank: waveforms has dtype {waveforms.dtype} "
            "but expected int16, float32 or float64"
        )
    if waveforms.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "stk.ops.fbank: waveforms requires a gradient but fbank is forward only; detach it, "
            "or use stk.ops.reference.fbank.fbank, which autograd follows"
        )
    if lengths.dtype != torch.int64:
        raise TypeError(f"stk.ops.fbank: lengths has dtype {lengths.dtype} but expected int64")
    if lengths.dim() != 1 or lengths.shape[0] != shape[0]:
        raise ValueError(
            f"stk.ops.fbank: lengths has shape {tuple(lengths.shape)} but expected ({shape[0]},)"
        )
    if lengths.device != waveforms.device:
        raise ValueError(
            f"stk.ops.fbank: lengths is on {lengths.device} but waveforms is on {waveforms.device}"
        )
    _check_cmvn(waveforms, cmvn, num_mel_bins)


def _check_cmvn(waveforms: Tensor, cmvn: Cmvn, num_mel_bins: int) -> None:
    if cmvn is None or (isinstance(cmvn, str) and cmvn == "utterance"):
        return
    if not isinstance(cmvn, tuple) or len(cmvn) != 2:
        raise ValueError(
            f"stk.ops.fbank: cmvn is {cmvn!r} "
            'but expected None, "utterance" or (mean, inverse deviation)'
        )
    for name, value in zip(("mean", "inverse deviation"), cmvn, strict=True):
        if tuple(value.shape) != (num_mel_bins,) or value.device != waveforms.device:
            raise ValueError(
                f"stk.ops.fbank: cmvn {name} has shape {tuple(value.shape)} on {value.device} "
                f"but expected ({num_mel_bins},) on {waveforms.device}"
            )


def _check_lengths(lengths: Tensor, samples: int) -> None:
    """Look at the values, which waits for the device where that is not the CPU."""
    if torch.compiler.is_compiling():
        return
    wrong = (lengths < 0) | (lengths > samples)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"stk.ops.fbank: lengths[{row}] is {int(lengths[row])} but expected 0 to {samples}"
        )


@_library.register_fake("fbank")
def _fake(
    waveforms: Tensor,
    lengths: Tensor,
    cmvn_mean: Tensor | None,
    cmvn_istd: Tensor | None,
    seed: Tensor,
    offset: Tensor,
    *,
    sample_rate: float,
    num_mel_bins: int,
    frame_length: float,
    frame_shift: float,
    snip_edges: bool,
    **options: object,
) -> tuple[Tensor, Tensor]:
    size, shift, _ = frame_sizes(sample_rate, frame_length, frame_shift)
    count = frame_count(waveforms.shape[1], size, shift, snip_edges)
    dtype = torch.float64 if waveforms.dtype == torch.float64 else torch.float32
    features = waveforms.new_empty((waveforms.shape[0], count, num_mel_bins), dtype=dtype)
    return features, torch.empty_like(lengths)


_library.forbid_gradient("fbank", "forward only, there is no gradient")
