"""A lexicon of the transcripts' words in several languages, each said by espeak-ng in its own.

A word that several languages have, such as *a*, is said as in the one that uses it most: the
lexicon of a vocabulary knows words, not languages.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from stk.cli.common import run
from stk.data.espeak import pronounce
from stk.data.manifest import read_manifest
from stk.data.phonemes import words_of, write_pronunciations
from stk.errors import StkError


def languages_of(manifests: Iterable[Path]) -> dict[str, set[str]]:
    """Language -> the words that it uses most often of all; of equals, the first by name does.

    Raises:
        StkError: a row without a transcript or its language.
    """
    used: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in manifests:
        for example in read_manifest(path):
            if example.src_text is None or example.src_lang is None:
                raise StkError("no src_text or src_lang", file=path, row=example.id)
            for word in words_of(example.src_text):
                used[word][example.src_lang] += 1
    found: defaultdict[str, set[str]] = defaultdict(set)
    for word, counts in used.items():
        found[min(counts, key=lambda lang: (-counts[lang], lang))].add(word)
    return dict(found)


def lexicon_of(languages: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Word -> its phonemes, of all languages together."""
    found: dict[str, tuple[str, ...]] = {}
    for lang, words in sorted(languages.items()):
        found.update(pronounce(words, lang))
    return found


def main(argv: list[str]) -> None:
    """Write the lexicon of some manifests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    languages = languages_of(options.manifests)
    lexicon = lexicon_of(languages)
    write_pronunciations(options.out, lexicon)
    count = sum(map(len, languages.values()))
    print(f"{options.out}: {len(lexicon)} of {count} words in {len(languages)} languages")


if __name__ == "__main__":
    sys.exit(run(main))
