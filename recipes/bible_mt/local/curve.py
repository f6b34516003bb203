"""Draw the learning curve of a run: losses, and BLEU of decoded validation where there is any."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stk.cli.common import run
from stk.data.atomic import replacing
from stk.reports.curve import learning_curve


def main(argv: list[str]) -> None:
    """Parse the options and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="output directory of a training")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    options = parser.parse_args(argv)
    figure = learning_curve(options.run)
    with replacing(options.out) as part:
        figure.savefig(part, format="png", dpi=120)


if __name__ == "__main__":
    sys.exit(run(main))
