"""``stk-data``: check, count, convert and prepare data.

stk-data validate   every bad row of a manifest, with its mend
stk-data check      what the streams of a run's configuration use and leave out
stk-data stats      counts, hours, lengths
stk-data scan       a manifest of a folder of sound files, without any text
stk-data filter     leave out rows that are too short or too long
stk-data convert    Kaldi data directories and fairseq TSVs, in and out
stk-data prepare    measure durations; optionally bring sound to one format
stk-data vocab      make a vocabulary
stk-data cmvn       feature statistics of a corpus
stk-data teacher    a teacher's most probable tokens, for distillation
stk-data bert       BERT features of a text, for LUT
stk-data pack       sentences of documents joined into long rows
stk-data import     a local model of Hugging Face as a checkpoint
stk-data export     a checkpoint as a model of CTranslate2 or Hugging Face
stk-data parallel   two files of parallel text to a manifest
stk-data counts     how often every id of a vocabulary occurs
stk-data synthetic  decoding output to training pairs: back-translation, distillation
stk-data similarity cosines of dictionary pairs among a model's word vectors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from stk.cli import (
    data_inspect,
    data_interop,
    data_make,
    data_models,
    data_pack,
    data_sound,
    data_text,
)
from stk.cli.common import run


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-data``."""
    p = argparse.ArgumentParser(
        prog="stk-data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data_inspect.add_to(commands)
    data_make.add_to(commands)
    data_models.add_to(commands)
    data_interop.add_to(commands)
    data_pack.add_to(commands)
    data_sound.add_to(commands)
    data_text.add_to(commands)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    return int(args.body(args))


if __name__ == "__main__":
    raise SystemExit(main())
