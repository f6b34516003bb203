"""Looking a name up in a registry, which is a literal dict."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from stk.errors import StkError

T = TypeVar("T")


def find_named(what: str, name: object, known: Mapping[str, T]) -> T:
    """The entry of ``known`` called ``name``.

    Args:
        what: what is looked up, for the message (``model``, ``objective`` ...).
        name: as the configuration has it.
        known: the registry.

    Raises:
        StkError: there is no such entry; names the nearest and all others.
    """
    if isinstance(name, str) and name in known:
        return known[name]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
    mend = f"nearest: {near[0]}; known: {', '.join(known)}" if near else "none is known"
    raise StkError(f"unknown {what} {name!r}", mend=mend)
