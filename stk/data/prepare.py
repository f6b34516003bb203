"""Making a manifest ready: durations measured, sound brought to one format, statistics taken."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from stk.config.run import FeatureConfig
from stk.data.atomic import replacing
from stk.data.audio import Channel, audio_info, check_segment, load_audio
from stk.data.example import Example
from stk.data.items import at_row, make_item
from stk.data.manifest import SkipList
from stk.errors import StkError
from stk.features.cmvn import Cmvn, CmvnAccumulator
from stk.features.frontend import FrontEnd

_CHUNK = 16


def timed(example: Example) -> Example:
    """The example with its duration measured from the header, its segment checked.

    Raises:
        StkError: missing or broken sound, a segment outside the file.
    """
    if example.audio is None:
        return example
    try:
        info = audio_info(example.audio)
        check_segment(example.audio, info, example.start, example.duration)
    except StkError as error:
        raise at_row(error, example) from None
    if example.duration is not None:
        return example
    return dataclasses.replace(example, duration=info.duration - example.start)


def to_flac(
    example: Example, directory: Path, sample_rate: int = 16000, channel: Channel = "mean"
) -> Example:
    """Write the example's clip as one 16-bit mono FLAC file and point the example at it.

    Samples beyond [-1, 1] are clipped. The file is named by the id, slashes replaced. It carries a
    comment on what it was made of; where a file with the very comment stands already, it is taken
    as it is, and no sound is decoded or resampled again.

    Raises:
        StkError: sound that cannot be read, or an id whose file name is taken by another.
    """
    if example.audio is None:
        return example
    path = Path(os.path.abspath(directory)) / f"{example.id.replace(os.sep, '_')}.flac"
    try:
        origin = _origin(example, example.audio, sample_rate, channel)
        frames = _made_before(path, origin)
        if frames is None:
            waveform = load_audio(
                example.audio, example.start, example.duration, sample_rate, channel
            )
            frames = len(waveform)
            _write(path, waveform.numpy().clip(-1, 1), sample_rate, origin)
    except StkError as error:
        raise at_row(error, example) from None
    return dataclasses.replace(example, audio=path, start=0.0, duration=frames / sample_rate)


def _origin(example: Example, audio: Path, sample_rate: int, channel: Channel) -> str:
    """What a clip is made of: another segment, rule, rate or source file gives another text."""
    if not audio.is_file():
        raise StkError("no such sound file", file=audio, mend="check the path in the manifest")
    about = audio.stat()
    return (
        f"{channel} channel, {sample_rate} Hz, start {example.start!r}, duration "
        f"{example.duration!r}, of {audio} ({about.st_size} bytes, {about.st_mtime_ns})"
    )


def _made_before(path: Path, origin: str) -> int | None:
    """Samples of a whole file that was made of just that; None: there is none."""
    if not path.is_file():
        return None
    try:
        with soundfile.SoundFile(path) as sound:
            return int(sound.frames) if sound.comment == origin else None
    except soundfile.LibsndfileError:
        return None  # not a FLAC file; it is written anew


def _write(path: Path, samples: np.ndarray, sample_rate: int, comment: str) -> None:
    with (
        replacing(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, format="FLAC") as sound,
    ):
        sound.comment = comment
        sound.write(samples)


def prepared(
    examples: Iterable[Example],
    *,
    audio_dir: Path | None = None,
    sample_rate: int = 16000,
    channel: Channel = "mean",
    skip_bad: SkipList | None = None,
) -> Iterator[Example]:
    """Examples with durations, and with their sound written anew where ``audio_dir`` is given.

    Args:
        examples: consumed once.
        audio_dir: for :func:`to_flac`; None leaves sound where it is.
        sample_rate: of the new files.
        channel: rule for files of several channels.
        skip_bad: collects unusable rows instead of raising.

    Raises:
        StkError: what :func:`timed` and :func:`to_flac` raise.
    """
    names: set[str] = set()
    for example in examples:
        try:
            name = example.id.replace(os.sep, "_")
            if audio_dir is not None and name in names:
                raise StkError(
                    f"id {example.id!r} would take another row's file name",
                    file=example.file,
                    row=example.row,
                    mend="rename it",
                )
            names.add(name)
            ready = timed(example)
            if audio_dir is not None:
                ready = to_flac(ready, audio_dir, sample_rate, channel)
        except StkError as error:
            if skip_bad is None:
                raise
            skip_bad.add(error)
            continue
        yield ready


def global_cmvn(
    examples: Sequence[Example],
    config: FeatureConfig,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Cmvn:
    """Mean and deviation of every bin over the frames of some examples.

    Args:
        examples: with sound; those without are left out.
        config: of the features; its ``cmvn`` is ignored.
        track: shows progress over the chunks.

    Raises:
        StkError: unreadable sound, or no frames at all.
    """
    plain = dataclasses.replace(config, cmvn="none", cmvn_file=None)
    frontend = FrontEnd(plain)
    total = CmvnAccumulator(frontend.dim)
    sound = [example for example in examples if example.audio is not None]
    for begin in track(range(0, len(sound), _CHUNK)):
        items = [make_item(example, frontend) for example in sound[begin : begin + _CHUNK]]
        features = frontend([item.waveform for item in items if item.waveform is not None])
        for frames, length in zip(features.data, features.lengths.tolist(), strict=True):
            total.add(frames[:length])
    return total.result(config)


def choose(examples: Sequence[Example], count: int | None, seed: int = 1) -> list[Example]:
    """``count`` examples drawn without replacement, in manifest order; None takes all."""
    if count is None or count >= len(examples):
        return list(examples)
    rows = np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False))
    return [examples[int(row)] for row in rows]
