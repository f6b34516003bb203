"""Monolingual verses for back-translation: of the first version, none of a pair's training text,
spread evenly, with the language to write."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from stk.cli.common import run
from stk.data.languages import check_language
from stk.data.manifest import read_manifest, write_manifest


def main(argv: list[str]) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument(
        "--count", type=int, required=True, help="rows taken; all if there are fewer"
    )
    parser.add_argument("--without", type=Path, required=True, help="manifest of the pair")
    parser.add_argument("--target-lang", required=True, type=check_language)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    known = {text for r in read_manifest(options.without) for text in (r.src_text, r.tgt_text)}
    every = read_manifest(options.manifest)
    version = every[0].id.split(".")[0]
    rows = [r for r in every if r.id.split(".")[0] == version and r.src_text not in known]
    count = min(options.count, len(rows))
    taken = [rows[place * len(rows) // count] for place in range(count)]
    write_manifest(
        options.out, [dataclasses.replace(row, tgt_lang=options.target_lang) for row in taken]
    )


if __name__ == "__main__":
    sys.exit(run(main))
