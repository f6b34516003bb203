"""What is wrong with a corpus: every fault with its file and line, listed and counted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stk.data.atomic import write_text

SHOWN = 10
"""Faults of a kind that are printed; the list has all."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: where it stands.
        line: its line, counted from 1.
        kind: a few words, the same for every fault of its kind.
        what: the particulars.
        kept: whether the row is used all the same (mended, or worth knowing only).
    """

    file: Path
    line: int
    kind: str
    what: str
    kept: bool = False

    def __str__(self) -> str:
        fate = "used" if self.kept else "left out"
        return f"{self.file}:{self.line}: {self.kind}: {self.what} ({fate})"


class Faults:
    """Collects faults."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, file: Path, line: int, kind: str, what: str, *, kept: bool = False) -> None:
        """Note one fault."""
        self.found.append(Fault(file, line, kind, what, kept))

    def extend(self, faults: Iterable[Fault]) -> None:
        """Note several."""
        self.found.extend(faults)

    @property
    def left_out(self) -> int:
        """Faults whose row is not used."""
        return sum(not fault.kept for fault in self.found)

    def counts(self) -> dict[str, int]:
        """Faults of each kind."""
        return dict(sorted(Counter(fault.kind for fault in self.found).items()))

    def report(self, path: Path) -> None:
        """Write all faults to ``path``; print the first of each kind and the counts."""
        write_text(path, "".join(f"{fault}\n" for fault in self.found))
        shown: Counter[str] = Counter()
        for fault in self.found:
            shown[fault.kind] += 1
            if shown[fault.kind] <= SHOWN:
                print(fault, file=sys.stderr)
        kinds = ", ".join(f"{count} x {kind}" for kind, count in self.counts().items())
        print(f"{len(self.found)} faults ({kinds or 'none'}), {self.left_out} rows left out")
        if self.found:
            print(f"all of them: {path}")
