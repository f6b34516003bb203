"""Training pairs of which a model wrote one side: back-translation and sequence distillation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stk.data.example import Example
from stk.data.languages import check_language
from stk.data.lines import read_lines
from stk.errors import StkError

Side = Literal["source", "target"]
Similarity = Callable[[str, str], float]
"""How near a hypothesis (first) is to a reference; higher is nearer."""


@dataclass(frozen=True, kw_only=True)
class SyntheticRules:
    """Which pairs are kept: at most ``longest`` words on either side, and the longer side at most
    ``ratio`` times the shorter plus ``slack`` (250 and 1.5 are those of Edunov et al., 2018)."""

    longest: int = 250
    ratio: float = 1.5
    slack: int = 3

    def __post_init__(self) -> None:
        if self.longest < 1 or self.ratio < 1.0 or self.slack < 0:
            raise ValueError("longest and ratio must be at least 1, slack not negative")

    def keeps(self, first: str, second: str) -> bool:
        """Whether a pair is kept; one with an empty side never is."""
        low, high = sorted((len(first.split()), len(second.split())))
        return low >= 1 and high <= self.longest and high <= self.ratio * low + self.slack


def read_candidates(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Id -> outputs, best first, of what ``stk-decode --output`` wrote.

    Raises:
        StkError: a row that is no decoding output, an id that stands twice.
    """
    path = Path(path)
    found: dict[str, tuple[str, ...]] = {}
    for row, line in enumerate(read_lines(path), 1):
        try:
            data = json.loads(line)
            name, texts = data["id"], tuple(str(c["text"]) for c in data["nbest"])
        except (ValueError, KeyError, TypeError):
            raise StkError("no decoding output: needs id and nbest", file=path, row=row) from None
        if not texts or name in found:
            what = f"id {name!r} stands twice" if name in found else "no output"
            raise StkError(what, file=path, row=row)
        found[name] = texts
    return found


def synthetic_pairs(
    examples: Iterable[Example],
    outputs: Mapping[str, Sequence[str]],
    *,
    side: Side,
    language: str | None = None,
    rules: SyntheticRules | None = None,
    nearest: Similarity | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Example]:
    """Pairs whose ``side`` is a model's output and whose other side is a text as it was.

    Back-translation (Sennrich et al., 2016) decodes text of the target language with a model of
    the other direction: ``side="source"`` turns the rows round, so that the text that was
    translated becomes the target, untouched. Sequence distillation (Kim and Rush, 2016) decodes
    training sources with a teacher: ``side="target"`` keeps the source.

    Args:
        examples: the rows that were decoded; ``src_text`` and ``src_lang`` are read.
        outputs: id -> outputs, best first.
        side: what the model wrote.
        language: of the output; None: the row's ``tgt_lang``.
        rules: which pairs are kept.
        nearest: takes the output nearest to the row's ``tgt_text`` instead of the first
            (interpolation of Kim and Rush).
        left_out: gets reasons and how many rows were left out for them.

    Raises:
        StkError: a row without an output, without the language, or (``nearest``) without a
            reference.
    """
    rules = rules or SyntheticRules()
    for example in examples:
        text, source_language = _needed(example, "src_text"), _needed(example, "src_lang")
        written_in = check_language(language or _needed(example, "tgt_lang"))
        if example.id not in outputs:
            raise StkError(
                f"example {example.id!r} was not decoded",
                file=example.file,
                row=example.row,
                mend="decode the same manifest",
            )
        candidates = outputs[example.id]
        written = candidates[0]
        if nearest is not None:
            reference = _needed(example, "tgt_text")
            written = max(candidates, key=lambda candidate: nearest(candidate, reference))
        if not rules.keeps(text, written):
            if left_out is not None:
                left_out["empty" if not written.strip() else "lengths do not fit"] += 1
            continue
        yield _pair(example, (text, source_language), (written, written_in), side)


def _pair(
    example: Example, given: tuple[str, str], written: tuple[str, str], side: Side
) -> Example:
    source, target = (written, given) if side == "source" else (given, written)
    return replace(
        example,
        id=f"{example.id}-{'bt' if side == 'source' else 'kd'}",
        src_text=source[0],
        src_lang=source[1],
        tgt_text=target[0],
        tgt_lang=target[1],
    )


def _needed(example: Example, field: str) -> str:
    value: Any = getattr(example, field)
    if value is None:
        raise StkError(f"example {example.id!r} lacks {field}", file=example.file, row=example.row)
    return str(value)
