"""Lexicons for substitution, and dictionary pairs held out of them.

    lexicons/A-B.tsv     words of A that substitution may replace, and their translations in B
    heldout/A-B.tsv      one pair a line that no lexicon above has, for similarity

Dictionaries of FreeDict serve where one is installed for English and the language; else a lexicon
is induced from aligned training verses. Every fifth English word is held out, in all languages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from stk.cli.common import run
from stk.data.alignment import induce
from stk.data.lexicon import Lexicon, load_lexicon
from stk.data.manifest import read_manifest
from stk.data.substitution import words_of
from stk.errors import StkError

FREEDICT = {"de": "deu", "fr": "fra", "es": "spa"}
HELD_OUT = 0.2
RARE = 5
"""Occurrences in training that both words of a held-out pair must have."""


def counted(file: Path) -> tuple[list[tuple[str, str]], Counter[str], Counter[str]]:
    """Sentence pairs of a manifest and the words of either side, in lower case."""
    pairs = [(row.src_text or "", row.tgt_text or "") for row in read_manifest(file)]
    sides = [
        Counter(word for text in side for word in words_of(text.lower()))
        for side in zip(*pairs, strict=True)
    ]
    return pairs, sides[0], sides[1]


def lexicon_of(
    language: str, dictionaries: Path, pairs: list[tuple[str, str]], known: Mapping[str, int]
) -> tuple[Lexicon, str]:
    """English words and their translations, and where they are from.

    Of a dictionary the translations stay that occur in the text, in lower case.
    """
    code = FREEDICT.get(language)
    index = dictionaries / f"usr/share/dictd/freedict-eng-{code}.index"
    if code is None or not index.is_file():
        return induce(pairs), "induced"
    found = (
        (word.lower(), other.lower())
        for word, other in load_lexicon(index).pairs()
        if known.get(other.lower(), 0)
    )
    try:
        return Lexicon.of_pairs(found), "freedict"
    except StkError as error:
        raise StkError(f"{error.what}: no entry occurs in the text", file=index) from None


def held_out(word: str) -> bool:
    """Whether an English word is held out: a function of the word alone."""
    digest = hashlib.sha256(f"held out {word}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64 < HELD_OUT


def make(
    pairs_dir: Path, dictionaries: Path, out: Path, languages: Iterable[str], size: int
) -> dict[str, object]:
    """Write lexicons of English and every language, both ways; return what was counted."""
    note: dict[str, object] = {}
    for language in languages:
        pairs, english, other = counted(pairs_dir / f"en-{language}" / "train.jsonl")
        whole, origin = lexicon_of(language, dictionaries, pairs, other)
        whole = whole.top(english, len(whole))
        away = [word for word in whole if held_out(word)]
        kept = whole.without(away)
        gone = {found for word in away for found in whole[word][:1]}
        forward = kept.top(english, size)
        # The way back must not teach a pair that is held out.
        backward = Lexicon.of_pairs((b, a) for a, b in kept.pairs() if b not in gone)
        backward = backward.top(other, size)
        tests = [
            (word, whole[word][0])
            for word in away
            if english[word] >= RARE and other.get(whole[word][0], 0) >= RARE
        ]
        forward.save(out / f"lexicons/en-{language}.tsv")
        backward.save(out / f"lexicons/{language}-en.tsv")
        Lexicon.of_pairs(tests).save(out / f"heldout/en-{language}.tsv")
        note[f"en-{language}"] = {
            "from": origin,
            "words": len(whole),
            "substituted": len(forward),
            "back": len(backward),
            "held out": len(tests),
        }
    return note


def main(argv: list[str]) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=Path, required=True, help="pairs/ of make_sets.py")
    parser.add_argument("--dictionaries", type=Path, required=True, help="unpacked packages")
    parser.add_argument("--languages", nargs="+", required=True, help="without English")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1000, help="words of a lexicon at most")
    options = parser.parse_args(argv)
    note = make(options.pairs, options.dictionaries, options.out, options.languages, options.size)
    print(json.dumps(note, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
