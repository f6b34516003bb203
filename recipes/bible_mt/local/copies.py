"""The copy baseline: every source as its own translation."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.data.manifest import read_manifest


def main(argv: list[str]) -> None:
    """Parse the options and write outputs as ``stk-decode`` does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    rows = [{"id": r.id, "text": r.src_text} for r in read_manifest(options.manifest)]
    write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    sys.exit(run(main))
