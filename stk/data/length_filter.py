"""Rows left out for their length, counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stk.data.example import Example
from stk.errors import StkError


@dataclass(frozen=True, kw_only=True)
class LengthFilter:
    """Bounds on what a row may hold; None leaves a bound out, and absent fields break none.

    Attributes:
        min_seconds, max_seconds: of the clip.
        max_chars: of each text.
        max_chars_per_second: of the transcript over the clip, which tells a transcript that
            cannot belong to it.
    """

    min_seconds: float | None = None
    max_seconds: float | None = None
    max_chars: int | None = None
    max_chars_per_second: float | None = None

    def __post_init__(self) -> None:
        least, most = self.min_seconds or 0.0, self.max_seconds
        if most is not None and most <= least:
            raise StkError(
                f"max_seconds {most:g} is not above min_seconds {least:g}", mend="swap them"
            )

    def reason(self, example: Example) -> str | None:
        """Why a row is left out, in words that many rows share; None: it stays.

        Raises:
            StkError: a bound on seconds, and sound whose duration was never measured.
        """
        if example.audio is not None and self._asks_seconds:
            seconds = _seconds(example)
            if self.min_seconds is not None and seconds < self.min_seconds:
                return f"under {self.min_seconds:g} s"
            if self.max_seconds is not None and seconds > self.max_seconds:
                return f"over {self.max_seconds:g} s"
            rate, text = self.max_chars_per_second, example.src_text
            if rate is not None and text is not None and len(text) > rate * seconds:
                return f"transcript of over {rate:g} characters a second"
        for name in ("src_text", "tgt_text"):
            text = getattr(example, name)
            if self.max_chars is not None and text is not None and len(text) > self.max_chars:
                return f"{name} of over {self.max_chars} characters"
        return None

    @property
    def _asks_seconds(self) -> bool:
        bounds = (self.min_seconds, self.max_seconds, self.max_chars_per_second)
        return any(bound is not None for bound in bounds)

    def __call__(self, examples: Iterable[Example], left_out: Counter[str]) -> Iterator[Example]:
        """The examples that stay; reasons of the others are counted in ``left_out``."""
        for example in examples:
            reason = self.reason(example)
            if reason is None:
                yield example
            else:
                left_out[reason] += 1


def _seconds(example: Example) -> float:
    if example.duration is None:
        raise StkError(
            f"example {example.id!r} has no duration",
            file=example.file,
            row=example.row,
            mend="run stk-data prepare first",
        )
    return example.duration
