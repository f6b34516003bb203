"""The one exception that a user's mistake or a broken input raises."""

from __future__ import annotations

from os import PathLike


class StkError(Exception):
    """Something the user can mend: bad input, a wrong option, files that do not belong together.

    The text is one line, ``file:row: what (mend)``. Command-line tools print it on standard error
    and exit with 1; a traceback appears with ``--debug`` alone.

    Args:
        what: what is wrong, in one sentence without a full stop.
        file: the file concerned.
        row: the row of that file, counted from 1.
        mend: what the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str | PathLike[str] | None = None,
        row: int | None = None,
        mend: str | None = None,
    ) -> None:
        self.what, self.file, self.row, self.mend = what, file, row, mend
        place = "" if file is None else f"{file}:{row}: " if row is not None else f"{file}: "
        text = f"{place}{what}" + (f" ({mend})" if mend else "")
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        """Worker processes send errors to their parent by pickling; keep the named parts."""
        return _rebuild, (self.what, self.file, self.row, self.mend)


def _rebuild(
    what: str, file: str | PathLike[str] | None, row: int | None, mend: str | None
) -> StkError:
    return StkError(what, file=file, row=row, mend=mend)
