"""BERT features of texts: what their sidecars hold, for those who write and those who read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from stk.data.example import Example
from stk.data.sidecar import SidecarWriter, made_by
from stk.errors import StkError

KIND = "BERT features"
"""Value of the part ``kind``."""

Track = Callable[[Sequence[int]], Iterable[int]]
Features = Callable[[Sequence[Example], Sequence[str]], list[Tensor]]
"""Rows and their texts to ``(S, W)`` states of each, on the CPU."""


def text_digest(text: str) -> Tensor:
    """``(16,)`` uint8: tells whether a row's text is the one that the features were made of."""
    return torch.tensor(list(hashlib.blake2b(text.encode(), digest_size=16).digest())).byte()


def write_features(
    out: str | Path,
    examples: Sequence[Example],
    features: Features,
    *,
    weights: str,
    field: str,
    pooled: bool,
    batch: int,
    track: Track,
) -> int:
    """Write the sidecar of a model's features, a row an example.

    A row has ``states (S, W)`` fp16 and ``text (16,)`` uint8, see :func:`text_digest`.

    Args:
        out: directory to write.
        examples: rows with ``field``.
        features: the model.
        weights: digest of the model.
        field: ``src_text`` or ``tgt_text``.
        pooled: whether there is one vector a sentence.
        batch: sentences at once.
        track: shows progress over batches.

    Returns:
        Rows written.

    Raises:
        StkError: a row without text.
    """
    parts = {"kind": KIND, "text": field, "pooled": pooled, "weights": weights}
    with SidecarWriter(out, made_by(**parts), parts) as writer:
        for begin in track(range(0, len(examples), batch)):
            rows = examples[begin : begin + batch]
            texts = [_text(example, field) for example in rows]
            for example, text, states in zip(rows, texts, features(rows, texts), strict=True):
                writer.add(example.id, {"states": states.half(), "text": text_digest(text)})
    return len(examples)


def check_length(example: Example, pieces: int, limit: int) -> None:
    """Raise unless a model of ``limit`` positions can read a text of so many pieces.

    Raises:
        StkError: it cannot; names the row.
    """
    if pieces > limit:
        raise StkError(
            f"example {example.id!r} has {pieces} pieces, BERT reads at most {limit}",
            file=example.file,
            row=example.row,
            mend="drop the row",
        )


def _text(example: Example, field: str) -> str:
    text = getattr(example, field)
    if text is None or not text.strip():
        raise StkError(f"example {example.id!r} has no {field}", file=example.file, row=example.row)
    return str(text)
