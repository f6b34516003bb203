"""One example on its way into a batch: its sound read, its generator made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stk.data.audio import Channel, load_audio
from stk.data.batch import Item
from stk.data.example import Example
from stk.errors import StkError
from stk.features.speed import change_speed

if TYPE_CHECKING:
    from stk.features.frontend import FrontEnd


def make_item(
    example: Example,
    frontend: FrontEnd | None,
    *,
    rng: np.random.Generator | None = None,
    speed: float = 1.0,
) -> Item:
    """Read an example's sound and bundle it with its generator.

    Args:
        example: with ``audio`` where ``frontend`` is given.
        frontend: gives sample rate and channel rule; None reads no sound.
        rng: the row's own generator; None (decoding) makes one that nothing should draw from.
        speed: factor by which the sound is played faster.

    Raises:
        StkError: sound that is missing, broken, outside its file or shorter than one frame,
            with the manifest's row.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    if frontend is None:
        return Item(example=example, rng=rng)
    if example.audio is None:
        raise StkError(f"example {example.id!r} lacks audio", file=example.file, row=example.row)
    channel: Channel = frontend.config.channel
    rate = frontend.sample_rate
    try:
        waveform = load_audio(example.audio, example.start, example.duration, rate, channel)
    except StkError as error:
        raise at_row(error, example) from None
    if example.duration is not None:
        # rounding between two rates may add a sample; frames must never exceed what was planned
        waveform = waveform[: max(1, round(example.duration * rate))]
    waveform = change_speed(waveform, speed)
    if frontend.frames(len(waveform) / rate) == 0:
        what = f"{example.audio}: {len(waveform) / rate:.4f} s is shorter than one frame"
        raise StkError(what, file=example.file, row=example.row, mend="drop the row")
    return Item(example=example, rng=rng, waveform=waveform)


def at_row(error: StkError, example: Example) -> StkError:
    """The same error, told from the manifest's row where there is one."""
    if example.file is None or (error.file == example.file and error.row == example.row):
        return error
    what = error.what if error.file is None else f"{error.file}: {error.what}"
    return StkError(what, file=example.file, row=example.row, mend=error.mend)
