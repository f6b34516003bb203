"""Verses and the kind of book they are from, for classification.

classes/train.jsonl      training verses in English, all versions
classes/test.jsonl       tested verses in every language of pre-training
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from make_sets import verse_of

from stk.cli.common import run
from stk.data.example import Example
from stk.data.manifest import read_manifest, write_manifest

LAST = {"law": 5, "history": 17, "poetry": 22, "prophets": 39, "gospels": 44, "letters": 66}
"""Kind of book -> number of its last book; Acts counts as a gospel, Revelation as a letter."""


def kind_of(row: Example) -> str:
    """The kind of book of a verse."""
    book, _, _ = verse_of(row)
    return next(kind for kind, last in LAST.items() if book <= last)


def labelled(row: Example) -> Example:
    """A verse whose ``tgt_text`` is its label, in English."""
    return replace(row, tgt_text=kind_of(row), tgt_lang="en", doc=None)


def make(bible: Path, out: Path, languages: Sequence[str]) -> dict[str, object]:
    """Write both sets; return rows by kind of book and by language.

    Args:
        bible: what make_sets.py wrote.
        out: directory to write to.
        languages: of pre-training, English among them.
    """
    others = [lang for lang in languages if lang != "en"]
    ways = [f"en-{others[0]}", *(f"{lang}-en" for lang in others)]  # sources: each language once
    train = [labelled(row) for row in read_manifest(bible / "mono/en.jsonl")]
    test = [
        labelled(row) for way in ways for row in read_manifest(bible / f"pairs/{way}/test.jsonl")
    ]
    write_manifest(out / "train.jsonl", train)
    write_manifest(out / "test.jsonl", test)
    return {
        "train": Counter(row.tgt_text for row in train),
        "test": Counter(row.tgt_text for row in test),
        "languages": Counter(row.src_lang for row in test),
    }


def main(argv: list[str]) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bible", type=Path, required=True, help="what make_sets.py wrote")
    parser.add_argument("--languages", nargs="+", required=True, help="of pre-training")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    print(json.dumps(make(options.bible, options.out, options.languages), indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
