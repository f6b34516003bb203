"""Looking at every row of a manifest for what would stop a run later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from stk.data.audio import audio_info, check_segment, load_audio
from stk.data.example import FIELDS, Example
from stk.data.items import at_row
from stk.data.manifest import Manifest, SkipList
from stk.data.vocab import Vocab
from stk.errors import StkError

Depth = Literal["full", "header", "none"]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is looked at.

    Attributes:
        audio: ``full`` decodes every clip (the only way to find a FLAC or MP3 that is cut short),
            ``header`` looks at headers and segments, ``none`` leaves sound alone.
        needs: fields every row must have.
        vocab: a vocabulary that must have a tag for every language named; None checks none.
        jobs: threads that decode.
    """

    audio: Depth = "full"
    needs: tuple[str, ...] = ()
    vocab: Vocab | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        for name in self.needs:
            if name not in FIELDS:
                raise StkError(f"no field {name!r}", mend=f"known: {', '.join(FIELDS)}")


def check_example(example: Example, checks: Checks) -> StkError | None:
    """What is wrong with one row beyond its form, or None."""
    try:
        missing = [name for name in checks.needs if getattr(example, name) is None]
        if missing:
            raise StkError(f"example {example.id!r} lacks {', '.join(missing)}", mend="add it")
        for language in {example.src_lang, example.tgt_lang} - {None}:
            if checks.vocab is not None and language is not None:
                checks.vocab.tag(language)
        if example.audio is not None and checks.audio == "header":
            info = audio_info(example.audio)
            check_segment(example.audio, info, example.start, example.duration)
        if example.audio is not None and checks.audio == "full":
            load_audio(example.audio, example.start, example.duration, channel="first")
    except StkError as error:
        return at_row(error, example)
    return None


def validate(
    path: str | Path,
    checks: Checks,
    *,
    track: Callable[[Iterable[Example]], Iterable[Example]] = iter,
) -> tuple[list[Example], list[StkError]]:
    """Check a manifest's form, then every row.

    Args:
        path: the manifest.
        checks: what to look at.
        track: shows progress.

    Returns:
        The good rows and one error for each bad one, both in order.

    Raises:
        StkError: the manifest is missing or none of its rows can be parsed.
    """
    skipped = SkipList()
    manifest = Manifest(path, skip_bad=skipped)
    good, bad = [], list(skipped.errors)
    for example, error in _checked(track(manifest), checks):
        if error is None:
            good.append(example)
        else:
            bad.append(error)
    return good, sorted(bad, key=lambda error: error.row or 0)


def _checked(
    examples: Iterable[Example], checks: Checks
) -> Iterator[tuple[Example, StkError | None]]:
    if checks.jobs <= 1:
        for example in examples:
            yield example, check_example(example, checks)
        return
    rows = iter(examples)
    with ThreadPoolExecutor(checks.jobs) as pool:
        while block := list(islice(rows, 64 * checks.jobs)):  # bounds what waits in memory
            found = pool.map(lambda example: check_example(example, checks), block)
            yield from zip(block, found, strict=True)
