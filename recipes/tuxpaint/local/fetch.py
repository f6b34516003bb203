"""Fetch the Debian package of Tux Paint's stamps and unpack it, without installing it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import debs

from stk.cli.common import run


def main(argv: list[str]) -> None:
    """Parse the options and fetch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory; left alone if there")
    options = parser.parse_args(argv)
    print("fetching tuxpaint-stamps-default (161 MB, GPL-2)", file=sys.stderr)
    debs.unpack(["tuxpaint-stamps-default"], options.out)


if __name__ == "__main__":
    sys.exit(run(main))
