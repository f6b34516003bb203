"""LibreOffice's help and everyday sentences as pairs with English, split by English sentence.

pairs-other/en-LANG/SIDE.jsonl, for de, fr, es and ru; train, dev, test
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from everyday import read_everyday
from help_pages import read_help

from stk.cli.common import run
from stk.data.cleaning import Cleaning, CleaningRules, distinct, without_shared
from stk.data.example import Example
from stk.data.guess_language import LanguageGuesser
from stk.data.manifest import read_manifest, write_manifest
from stk.data.normalise import normalise
from stk.errors import StkError

LANGUAGES = ("de", "fr", "es", "ru")
SHARES = {"test": 0.02, "dev": 0.01}


def side_of(row: Example) -> str:
    """Side of a row: by its English text, alike in all languages."""
    digest = hashlib.sha256(normalise(row.src_text or "", "lower-nopunct").encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2.0**64
    for side, share in SHARES.items():
        if place < share:
            return side
        place -= share
    return "train"


def guesser_from(bible: Path) -> LanguageGuesser:
    """Tells languages apart by what the Bible's development verses read like."""
    texts: dict[str, list[str]] = {}
    for file in sorted((bible / "mono-dev").glob("*.jsonl")):
        texts[file.stem] = [row.src_text or "" for row in read_manifest(file)]
    return LanguageGuesser(texts)


def apart(rows: Sequence[Example], left_out: Counter[str]) -> dict[str, list[Example]]:
    """Side -> its rows: ``test``, ``dev``, ``train``.

    A German text may stand beside two English ones that fall on different sides: the row of the
    later side goes.

    Args:
        rows: distinct pairs.
        left_out: gets the number left out, under ``in another split``.
    """
    sides: dict[str, list[Example]] = {}
    taken: list[Example] = []
    for side in (*SHARES, "train"):
        own = (row for row in rows if side_of(row) == side)
        sides[side] = list(without_shared(own, taken, left_out))
        taken += sides[side]
    return sides


def make(package: Path, bible: Path, out: Path, longest: int) -> dict[str, object]:
    """Write the pairs of every language; return what was counted."""
    guesser = guesser_from(bible)
    held = [
        row
        for side in ("dev", "test")
        for file in sorted(bible.glob(f"pairs/*/{side}.jsonl"))
        for row in read_manifest(file)
    ]
    note: dict[str, object] = {}
    for language in LANGUAGES:
        cleaning = Cleaning(CleaningRules(shortest=3, longest=longest), guesser)
        rows: Iterable[Example] = read_help(package, language)
        if language == "de":
            rows = chain(rows, read_everyday(package))
        clean = list(
            without_shared(distinct(cleaning(rows), cleaning.left_out), held, cleaning.left_out)
        )
        sides = apart(clean, cleaning.left_out)
        counts = Counter({side: len(found) for side, found in sides.items()})
        if not counts["train"]:
            raise StkError(f"no text is left for en-{language}", mend="raise --longest")
        for side, found in ((side, found) for side, found in sides.items() if found):
            write_manifest(out / f"en-{language}" / f"{side}.jsonl", found)
        note[f"en-{language}"] = {"rows": counts, "left_out": cleaning.left_out}
    return note


def main(argv: list[str]) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--package", type=Path, required=True, help="unpacked Debian packages")
    parser.add_argument("--bible", type=Path, required=True, help="what make_sets.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--longest", type=int, default=30, help="words of a text at most")
    options = parser.parse_args(argv)
    note = make(options.package, options.bible, options.out, options.longest)
    print(json.dumps(note, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
