"""Errors a user meets are one line, survive pickling and end a tool with a status."""

from __future__ import annotations

import io
import pickle
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from stk.cli.common import progress, run
from stk.errors import StkError


def test_text_names_file_row_and_mend() -> None:
    error = StkError("bad\nthing", file=Path("m.jsonl"), row=3, mend="drop it")
    assert str(error) == "m.jsonl:3: bad thing (drop it)"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.row == 3 and again.mend == "drop it"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StkError("wrong"), "error: wrong\n"),
        (FileNotFoundError(2, "No such file or directory", "a.wav"), "error: a.wav: No such file"),
    ],
)
def test_tools_print_one_line_and_fail(error: Exception, line: str) -> None:
    def main(arguments: list[str]) -> int:
        raise error

    for argv, traceback in (([], False), (["--debug"], True)):
        with redirect_stderr(io.StringIO()) as stream:
            assert run(main, argv) == 1
        assert line in stream.getvalue()
        assert ("Traceback" in stream.getvalue()) == traceback
        assert traceback or stream.getvalue().count("\n") == 1


def test_a_programming_error_is_not_hidden() -> None:
    def main(arguments: list[str]) -> int:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run(main, [])


def test_progress_yields_everything_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2, 3], title="count", every=0.0)) == [1, 2, 3]
    assert "count: 3/3" in capsys.readouterr().err
