"""Reading sound: any common format, rate and channel count; segments without the whole file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from stk.errors import StkError

Channel = Literal["mean", "loudest", "first"]

TOLERANCE = 0.01
"""Seconds by which a segment may end after its file; such an end is moved to the file's end."""

_UNKNOWN_SIZE = 0x7FFFFFFF  # chunk sizes from here on mean "written to a pipe", not a length
_CHUNK = re.compile(r"(data|SSND) : (\d+) \(should be (\d+)\)")


@dataclass(frozen=True)
class AudioInfo:
    """What the header says: samples a second, channels, sample frames."""

    rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.rate


def audio_info(path: str | Path) -> AudioInfo:
    """Read the header of a sound file.

    Raises:
        StkError: missing, empty, zero-length file, not a sound file, or cut short in a way that
            the header shows (WAV, AIFF, OGG; a cut FLAC or MP3 shows when it is read).
    """
    with _open(Path(path)) as sound:
        return AudioInfo(sound.samplerate, sound.channels, sound.frames)


def audio_duration(path: str | Path) -> float:
    """Seconds of a whole sound file, from its header (see :func:`audio_info`)."""
    return audio_info(path).duration


def load_audio(
    path: str | Path,
    start: float = 0.0,
    duration: float | None = None,
    sample_rate: int = 16000,
    channel: Channel = "mean",
) -> Tensor:
    """Read a sound file, or a segment of it, as one channel at one rate.

    WAV, FLAC, OGG (Vorbis, Opus), AIFF and MP3. Only the segment is read and decoded: the file
    is entered by a seek.

    Args:
        path: the file.
        start: seconds into the file, >= 0.
        duration: seconds, > 0; None reads to the end.
        sample_rate: rate of the result, in Hz.
        channel: ``mean`` of all channels, the ``loudest`` one (highest energy within the
            segment; the first of equals) or the ``first``.

    Returns:
        ``(N,)`` float32, nominally in [-1, 1], ``N = round(samples read * sample_rate / rate)``.

    Raises:
        StkError: whatever :func:`audio_info` raises; a segment outside the file (by more than
            :data:`TOLERANCE`); sound that cannot be decoded, ends early or is not finite.
    """
    path = Path(path)
    with _open(path) as sound:
        first, count = _segment(path, sound, start, duration)
        samples = _read(path, sound, first, count)
        rate = sound.samplerate
    if not np.isfinite(samples).all():
        raise StkError("holds samples that are not finite", file=path, mend="write the file anew")
    return torch.from_numpy(resample(_mix(samples, channel), rate, sample_rate))


def resample(samples: np.ndarray, rate: float, new_rate: float) -> np.ndarray:
    """Band-limited resampling of ``(N,)`` float32 to ``round(N * new_rate / rate)`` samples."""
    if rate == new_rate:
        return np.ascontiguousarray(samples)
    wanted = max(1, round(len(samples) * new_rate / rate))
    result = soxr.resample(samples, rate, new_rate, quality="MQ")[:wanted]
    # the resampler may round the length down; at most a sample or two are missing
    return np.pad(result, (0, wanted - len(result))) if len(result) < wanted else result


def check_segment(path: Path, info: AudioInfo, start: float, duration: float | None) -> None:
    """Raise StkError unless ``[start, start + duration)`` lies within the file."""
    _bounds(path, info.rate, info.frames, start, duration)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise StkError("no such sound file", file=path, mend="check the path in the manifest")
    if path.stat().st_size == 0:
        raise StkError("the sound file is empty (0 bytes)", file=path, mend="make it again")
    try:
        sound = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        what = str(getattr(error, "error_string", error)).rstrip(".")
        raise StkError(
            f"not a readable sound file: {what}", file=path, mend="WAV, FLAC, OGG, AIFF or MP3"
        ) from None
    problem = _cut_short(sound.extra_info)
    if problem is None and sound.frames <= 0:
        problem = "holds no samples"
    if problem is not None:
        sound.close()
        raise StkError(problem, file=path, mend="make the file again or drop the row")
    return sound


def _cut_short(log: str) -> str | None:
    """libsndfile mends a truncated file in silence; its own log tells."""
    for chunk, said, found in _CHUNK.findall(log):
        if int(found) < int(said) < _UNKNOWN_SIZE:
            return f"cut short: {chunk} should hold {said} bytes and holds {found}"
    if "Last page lacks an end-of-stream bit" in log and "Junk after the last page" in log:
        return "cut short: the last OGG page is broken"
    return None


def _segment(path: Path, sound: Any, start: float, duration: float | None) -> tuple[int, int]:
    return _bounds(path, sound.samplerate, sound.frames, start, duration)


def _bounds(
    path: Path, rate: int, frames: int, start: float, duration: float | None
) -> tuple[int, int]:
    first = round(start * rate)
    end = frames if duration is None else first + max(1, round(duration * rate))
    if first < 0 or first >= frames or end > frames + TOLERANCE * rate:
        asked = "" if duration is None else f" to {start + duration:.3f} s"
        raise StkError(
            f"segment from {start:.3f} s{asked} lies outside the file of {frames / rate:.3f} s",
            file=path,
            mend="correct start and duration",
        )
    return first, min(end, frames) - first


def _read(path: Path, sound: Any, first: int, count: int) -> np.ndarray:
    try:
        if first:
            sound.seek(first)
        samples = sound.read(count, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        what = str(getattr(error, "error_string", error)).rstrip(".")
        raise StkError(
            f"cannot be decoded: {what}", file=path, mend="cut short or corrupt; make it again"
        ) from None
    if len(samples) < count:
        raise StkError(
            f"cut short: {len(samples)} of {count} samples could be read",
            file=path,
            mend="make the file again or drop the row",
        )
    return samples


def _mix(samples: np.ndarray, channel: Channel) -> np.ndarray:
    """``(N, C)`` float32 to ``(N,)``."""
    if samples.shape[1] == 1 or channel == "first":
        return samples[:, 0]
    if channel == "loudest":
        energy = np.einsum("nc,nc->c", samples, samples, dtype=np.float64)
        return samples[:, int(energy.argmax())]
    return samples.mean(axis=1)
