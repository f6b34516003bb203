"""Pseudo-labels: what a model wrote becomes the target of the rows that it read.

Self-training (He et al., 2020; for speech translation Wang et al., 2021) trains a new model on them
beside the true ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from stk.data.example import Example
from stk.decoding.translator import Translation
from stk.objectives.task import TextField


def pseudo_labelled(
    pairs: Iterable[tuple[Example, Translation]], field: TextField
) -> Iterator[Example]:
    """Manifest rows with a model's output as their text; rows without any output are left out.

    Args:
        pairs: rows that were decoded, and what was written for each.
        field: where the output goes; what stood there is replaced.

    Yields:
        The rows, with the duration that was heard. Of a model that writes a transcript beside the
        translation it fills ``src_text`` where a row has none.
    """
    for example, translation in pairs:
        if not translation.text.strip():
            continue
        text: dict[str, Any] = {field: translation.text}
        if field != "src_text" and example.src_text is None and translation.transcript:
            text["src_text"] = translation.transcript
        duration = example.duration
        if example.audio is not None and duration is None:
            duration = translation.audio_seconds
        yield dataclasses.replace(example, duration=duration, **text)
