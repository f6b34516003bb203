"""espeak-ng through ctypes: text in, samples out, the same bits every time.

The library keeps state from one utterance to the next, so the same call differs when repeated in
one process. :func:`speak_all` therefore forks one child an utterance from a parent that has
spoken nothing: what a clip sounds like depends on its own request alone, not on its neighbours,
their order or the number of processes.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from stk.errors import StkError

SAMPLE_RATE = 16000  # Hz, of the files written
VOLUME = 60  # per cent; at 100 the louder variants clip

# Constants of espeak-ng's speak_lib.h
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_RATE, _VOLUME, _PITCH = 1, 2, 3
_POS_CHARACTER = 1
_UTF8 = 1

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One utterance to be spoken.

    Attributes:
        text: what is said, in English.
        accent: espeak-ng voice code, such as ``en-us``.
        variant: name of one of espeak-ng's voice variants, such as ``f2``.
        rate: words a minute.
        pitch: 0 to 100; 50 is the variant's own.
        path: WAV file to write, 16-bit, mono, 16 kHz.
    """

    text: str
    accent: str
    variant: str
    rate: int
    pitch: int
    path: Path


@cache
def _library() -> tuple[ctypes.CDLL, int, Path]:
    """The initialised library, its sampling rate in Hz and its data directory."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise StkError(
            "espeakng-loader is not installed", mend="run: make install, or pip install stk[demo]"
        ) from error
    data = Path(espeakng_loader.get_data_path())
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise StkError(f"espeak-ng does not load: {error}") from error
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
    if rate <= 0:
        raise StkError("espeak-ng does not start", file=data)
    return library, rate, data


def check_voice(accent: str, variant: str) -> None:
    """Raise :class:`StkError` unless espeak-ng has this accent and this variant.

    Setting an unknown variant succeeds in espeak-ng and changes nothing, hence the look at its
    files; an unknown accent is refused by a return code, and the voice before stays.
    """
    library, _, data = _library()
    if not (data / "voices" / "!v" / variant).is_file():
        raise StkError(f"espeak-ng has no voice variant {variant!r}", file=data)
    if library.espeak_SetVoiceByName(accent.encode()) != 0:
        raise StkError(f"espeak-ng has no English voice {accent!r}", file=data)


def _synthesise(request: Request) -> np.ndarray:
    """Samples ``(N,)`` int16 at the library's own rate."""
    library, _, _ = _library()
    pieces: list[np.ndarray] = []

    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    callback = _Callback(receive)  # kept alive until the synthesis has returned
    library.espeak_SetSynthCallback(callback)
    voice = f"{request.accent}+{request.variant}".encode()
    text = request.text.encode()
    library.espeak_ng_SetRandSeed(1)  # breath noise; seeded from the clock otherwise
    codes = [
        library.espeak_SetVoiceByName(voice),
        library.espeak_SetParameter(_RATE, request.rate, 0),
        library.espeak_SetParameter(_VOLUME, VOLUME, 0),
        library.espeak_SetParameter(_PITCH, request.pitch, 0),
        library.espeak_Synth(
            text, ctypes.c_size_t(len(text) + 1), 0, _POS_CHARACTER, 0, _UTF8, None, None
        ),
    ]
    if any(codes) or not pieces:
        raise StkError(f"espeak-ng spoke nothing for {request.text!r} (codes {codes})")
    return np.concatenate(pieces)


def speak(request: Request) -> None:
    """Speak one request into its file, in this process (see the module text on state)."""
    _, rate, _ = _library()
    sound = _synthesise(request).astype(np.float32) / 32768.0
    resampled = soxr.resample(sound, rate, SAMPLE_RATE)
    soundfile.write(request.path, resampled, SAMPLE_RATE, subtype="PCM_16", format="WAV")


def _fork(request: Request) -> int:
    """Start a child that speaks one request; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        speak(request)
        status = 0
    except BaseException:
        # Straight to the descriptor: a progress bar's locks may be held by a thread left behind.
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def speak_all(requests: Sequence[Request], processes: int) -> Iterator[Request]:
    """Speak every request, at most ``processes`` at once; yields each when its file is there.

    The directories of the files must exist. The calling process must run no other children.

    Raises:
        StkError: a voice that does not exist, or a child that failed (its message is on
            standard error).
    """
    for accent, variant in sorted({(r.accent, r.variant) for r in requests}):
        check_voice(accent, variant)
    running: dict[int, Request] = {}
    for request in requests:
        if len(running) == processes:
            yield _reap(running)
        running[_fork(request)] = request
    while running:
        yield _reap(running)


def _reap(running: dict[int, Request]) -> Request:
    # The oldest by its number: os.wait() would also take children that others have started.
    child = next(iter(running))
    request = running.pop(child)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise StkError(f"no sound for {request.text!r}", file=request.path)
    return request
