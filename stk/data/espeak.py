"""Pronunciations from espeak-ng, through the library in the package ``espeakng-loader``."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from stk.errors import StkError

# Constants of espeak-ng's speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _IPA = 2, 0x8000, 1, 0x02
_SEPARATOR = "_"


@cache
def _library() -> ctypes.CDLL:
    try:
        import espeakng_loader
    except ImportError:
        raise StkError(
            "espeakng-loader is not installed",
            mend="pip install espeakng-loader, or give a lexicon file",
        ) from None
    data = Path(espeakng_loader.get_data_path())
    try:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except OSError as error:
        raise StkError(f"espeak-ng does not load: {error}") from None
    if library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT) <= 0:
        raise StkError("espeak-ng does not start", file=data)
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int,
        ctypes.c_int,
    ]
    return library


def pronounce(words: Iterable[str], voice: str) -> dict[str, tuple[str, ...]]:
    """Word -> its phonemes in IPA, without stress marks; words that it cannot say are left out.

    Args:
        words: each by itself; order and repeats do not matter.
        voice: espeak-ng's code of a language or accent, such as ``en-us`` or ``fr``.

    Raises:
        StkError: the library is not installed or does not start, or it has no such voice.
    """
    library = _library()
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise StkError(f"espeak-ng has no voice {voice!r}", mend="such as en-us, en-gb, fr, es, ro")
    found = {}
    for word in sorted(set(words)):
        phonemes = _spoken(library, word)
        if phonemes:
            found[word] = phonemes
    return found


def _spoken(library: ctypes.CDLL, word: str) -> tuple[str, ...]:
    text = ctypes.create_string_buffer(word.encode())
    place = ctypes.c_void_p(ctypes.addressof(text))
    mode = _IPA | (ord(_SEPARATOR) << 8)
    parts = []
    while place.value:  # a clause at a time; NULL after the last
        spoken = library.espeak_TextToPhonemes(ctypes.byref(place), _UTF8, mode)
        parts.append((spoken or b"").decode())
    phonemes = " ".join(parts).replace(_SEPARATOR, " ").split()
    bare = (phoneme.strip("ˈˌ") for phoneme in phonemes if not phoneme.startswith("("))
    return tuple(phoneme for phoneme in bare if phoneme)
