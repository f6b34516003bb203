"""What every command-line tool shares: one-line errors and progress."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from stk.errors import StkError

T = TypeVar("T")


def run(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call a tool's body and turn what a user can mend into one line and a non-zero exit.

    Args:
        main: takes the arguments without ``--debug`` and returns an exit status (None: 0).
        argv: arguments, ``sys.argv[1:]`` when None. ``--debug`` anywhere asks for tracebacks.

    Returns:
        0 on success, 1 after a :class:`~stk.errors.StkError` or an operating-system error,
        130 after an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return main(arguments) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (StkError, OSError) as error:
        if debug:
            traceback.print_exc()
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def progress(
    items: Iterable[T],
    *,
    total: int | None = None,
    title: str,
    every: float = 10.0,
    brief: bool = False,
) -> Iterator[T]:
    """Yield ``items`` while showing how far they are, on standard error.

    On a terminal a live bar; elsewhere (a log file, CI) a plain line every ``every`` seconds and
    one at the end. ``brief``: nothing stays of it that is over before the first of those lines.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        yield from track(items, description=title, total=total, console=console, transient=brief)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        over = done == total and not (brief and last == began)
        if now - last >= every or over:
            last = now
            of = "" if total is None else f"/{total}"
            print(f"{title}: {done}{of}, {now - began:.0f} s", file=sys.stderr, flush=True)
