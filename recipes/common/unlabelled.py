"""Sound to be labelled: the clips of a manifest without their translations, once a target language.

python unlabelled.py MANIFEST --tgt-langs de fr --out sound.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stk.cli.common import run
from stk.data.example import Example
from stk.data.manifest import Manifest, write_manifest
from stk.errors import StkError


def clips(manifest: Manifest, languages: Sequence[str]) -> Iterator[Example]:
    """Every row once a language, which is named in front of its id where there are several.

    Args:
        manifest: rows with sound; translations and transcripts are dropped.
        languages: to be translated into.

    Raises:
        StkError: a row without sound.
    """
    for language in languages:
        front = f"{language}/" if len(languages) > 1 else ""
        for row in manifest:
            if row.audio is None:
                raise StkError(
                    "no sound to label", file=row.file, row=row.row, mend="give the row its audio"
                )
            yield replace(row, id=front + row.id, src_text=None, tgt_text=None, tgt_lang=language)


def main(argv: list[str]) -> None:
    """Parse the options and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", type=Path, help="what is to be labelled")
    parser.add_argument("--tgt-langs", nargs="+", required=True, help="languages to write")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write")
    options = parser.parse_args(argv)
    count = write_manifest(options.out, clips(Manifest(options.manifest), options.tgt_langs))
    print(f"{options.out}: {count} clips to label", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
