"""The texts that pre-training and the vocabulary read, drawn by language with a temperature.

pretrain/mono.jsonl      monolingual, of the languages of pre-training
pretrain/multi.jsonl     parallel, both ways, of all pairs of pre-training
pretrain/valid-*.jsonl   a few development verses of each
vocab.jsonl              what the shared vocabulary is learnt from, all languages
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stk.cli.common import run
from stk.data.example import Example
from stk.data.manifest import read_manifest, write_manifest
from stk.data.sampling import temperature_sample

VALIDATED = 40
"""Development verses of a language or pair that pre-training is validated with."""


def source_language(row: Example) -> str:
    """The language of a monolingual row."""
    return str(row.src_lang)


def pair_of(row: Example) -> str:
    """The direction of a parallel row."""
    return f"{row.src_lang}-{row.tgt_lang}"


def turned(row: Example) -> Example:
    """A pair the other way round."""
    return replace(
        row,
        id=f"{row.id}-back",
        src_text=row.tgt_text,
        src_lang=row.tgt_lang,
        tgt_text=row.src_text,
        tgt_lang=row.src_lang,
    )


def sides_of(row: Example) -> list[Example]:
    """Both sides of a pair as monolingual rows."""
    empty = replace(row, tgt_text=None, tgt_lang=None)
    other = replace(empty, id=f"{row.id}-to", src_text=row.tgt_text, src_lang=row.tgt_lang)
    return [empty, other]


def first(files: Sequence[Path], count: int) -> list[Example]:
    """The first rows of each file, ids made distinct by the file's place."""
    return [
        replace(row, id=f"{number}-{row.id}")
        for number, file in enumerate(files)
        for row in read_manifest(file)[:count]
    ]


def make(data: Path, languages: Sequence[str], rows: int, temperature: float) -> dict[str, object]:
    """Write the mixtures; return rows by language and by pair."""
    bible = data / "bible"
    mono = [row for lang in languages for row in read_manifest(bible / f"mono/{lang}.jsonl")]
    pairs = [
        row
        for lang in languages
        if lang != "en"
        for ways in (f"en-{lang}", f"{lang}-en")
        for row in (
            replace(r, id=f"{ways}-{r.id}")
            for r in read_manifest(bible / f"pairs/{ways}/train.jsonl")
        )
    ]
    for file in sorted((data / "pairs-other").glob("*/train.jsonl")):
        if file.parent.name.split("-")[1] in languages:
            other = read_manifest(file)
            pairs += [*other, *(turned(row) for row in other)]
            mono += [side for row in other for side in sides_of(row)]
    texts = [
        row for file in sorted((bible / "mono").glob("*.jsonl")) for row in read_manifest(file)
    ]
    drawn = {
        "pretrain/mono": temperature_sample(
            mono, rows, key=source_language, temperature=1 / 0.7, groups=languages
        ),
        "pretrain/multi": temperature_sample(pairs, rows, key=pair_of, temperature=temperature),
        "vocab": temperature_sample(texts, rows // 4, key=source_language, temperature=2.0),
    }
    for path, found in drawn.items():
        write_manifest(data / f"{path}.jsonl", found)
    others = [lang for lang in languages if lang != "en"]
    ways = [bible / f"pairs/{lang}-en/dev.jsonl" for lang in others]
    write_manifest(data / "pretrain/valid-multi.jsonl", first(ways, VALIDATED))
    mono_ways = [bible / f"mono-dev/{lang}.jsonl" for lang in languages]
    write_manifest(data / "pretrain/valid-mono.jsonl", first(mono_ways, VALIDATED))
    return {
        "pretrain/mono": Counter(map(source_language, drawn["pretrain/mono"])),
        "pretrain/multi": Counter(map(pair_of, drawn["pretrain/multi"])),
        "vocab": Counter(map(source_language, drawn["vocab"])),
    }


def main(argv: list[str]) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", required=True, help="of pre-training")
    parser.add_argument("--rows", type=int, default=120000, help="of each mixture")
    parser.add_argument("--temperature", type=float, default=5.0, help="over pairs")
    options = parser.parse_args(argv)
    note = make(options.data, options.languages, options.rows, options.temperature)
    print(json.dumps(note, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
