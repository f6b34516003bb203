"""Reading CoVoST 2 and Common Voice: tables, directions, official splits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from faults import Faults

from stk.errors import StkError

_FROM = "fr de es ca it ru zh-CN pt fa et mn nl tr ar sv-SE lv sl ta ja id cy"
_TO = "de tr fa sv-SE mn zh-CN cy ca sl et id ar ta lv ja"
FROM, TO = tuple(_FROM.split()), tuple(_TO.split())
DIRECTIONS = (*(f"{lang}_en" for lang in FROM), *(f"en_{lang}" for lang in TO))
"""All 36: 21 into English, 15 out of it."""
SPLITS = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}
"""Value of the column ``split`` -> set; the sentences that the first CoVoST added train too."""

_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of a direction's table with its transcript.

    Attributes:
        line: in the table, counted from 1.
        name: of the MP3 file.
        transcript: what is said.
        translation: of it.
        split: set of SPLITS.
        speaker: Common Voice's ``client_id``.
    """

    line: int
    name: str
    transcript: str
    translation: str
    split: str
    speaker: str


def directions(named: str) -> tuple[str, ...]:
    """The directions of ``en_de``, ``fr_en,de_en``, ``x_en`` (all into English) or ``en_x``.

    Raises:
        StkError: an unknown direction, or some into English beside some out of it.
    """
    groups = {"x_en": [f"{lang}_en" for lang in FROM], "en_x": [f"en_{lang}" for lang in TO]}
    found = tuple(groups.get(named) or named.split(","))
    for direction in found:
        if direction not in DIRECTIONS:
            raise StkError(
                f"CoVoST 2 has no direction {direction!r}",
                mend=f"x_en, en_x, or some of {' '.join(DIRECTIONS)}",
            )
    if len({direction.startswith("en_") for direction in found}) == 2:
        raise StkError("directions go into English or out of it", mend="run the recipe twice")
    return found


def rows(
    path: Path, columns: tuple[str, ...], faults: Faults | None
) -> Iterator[tuple[int, list[str]]]:
    r"""Line number and the named columns of each row of a TSV file.

    Quotes mean nothing and ``\`` escapes the character behind it, as in CoVoST 2's own tools.

    Args:
        path: with a head.
        columns: to take, in this order.
        faults: gets Windows line ends and rows that are too short; None: these are passed over.

    Raises:
        StkError: the file or a column is missing.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*"))[:10]
        raise StkError(
            f"no such file; {path.parent} holds {', '.join(there) or 'nothing'}", file=path
        )
    with path.open(encoding="utf-8", newline="\n") as stream:
        head = stream.readline().rstrip("\r\n").split("\t")
        missing = [column for column in columns if column not in head]
        if missing:
            raise StkError(
                f"no column {missing[0]!r}", file=path, row=1, mend=f"it has {', '.join(head)}"
            )
        places = [head.index(column) for column in columns]
        for number, line in enumerate(stream, 2):
            line = line.removesuffix("\n")
            if line.endswith("\r"):
                line = line.removesuffix("\r")
                if faults is not None:
                    faults.add(
                        path,
                        number,
                        "Windows line end",
                        "the carriage return is dropped",
                        kept=True,
                    )
            fields = line.split("\t")
            if len(fields) <= max(places):
                if faults is not None:
                    what = f"{len(fields)} columns, {max(places) + 1} are needed"
                    faults.add(path, number, "short row", what)
                continue
            yield number, [unescaped(fields[place]).strip() for place in places]


def unescaped(field: str) -> str:
    """A field without its escapes."""
    return _ESCAPED.sub(r"\1", field) if "\\" in field else field


def read_validated(path: Path) -> dict[str, tuple[str, str]]:
    """Clip -> transcript and speaker, from Common Voice's ``validated.tsv``."""
    return {
        name: (sentence, speaker)
        for _, (name, sentence, speaker) in rows(path, ("path", "sentence", "client_id"), None)
    }


def read_clips(
    table: Path, validated: dict[str, tuple[str, str]], faults: Faults
) -> Iterator[Clip]:
    """The usable rows of a direction's table; what is wrong with the others is noted."""
    seen: dict[str, int] = {}
    for line, (name, translation, split) in rows(table, ("path", "translation", "split"), faults):
        if split not in SPLITS:
            continue  # released with the corpus, part of no split
        if name in seen:
            faults.add(table, line, "repeated clip", f"{name} stands in line {seen[name]} already")
            continue
        seen[name] = line
        if name not in validated:
            faults.add(table, line, "not validated", f"{name} is not in validated.tsv")
            continue
        transcript, speaker = validated[name]
        if not transcript or not translation:
            side = "sentence" if not transcript else "translation"
            faults.add(table, line, "empty line", f"{name} has no {side}")
            continue
        if " " in name:
            faults.add(table, line, "space in a name", repr(name), kept=True)
        yield Clip(line, name, transcript, translation, SPLITS[split], speaker)
