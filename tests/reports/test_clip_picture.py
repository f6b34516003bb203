"""The picture of one clip from sound to text, and ``stk-decode --report``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import stk
from stk.cli.decode import main
from stk.reports.clip import clip_picture, view_clip
from stk.reports.draw import edges
from tests.decoding import tiny

JOINT = {"name": "consecutive", "prefix": "asr", "separator": "de", "ctc_view": "tgt"}
SEARCH = {"beam": 2, "min_length": 4, "max_length": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COSTT with random weights, its decoder's twin without CTC, and a clip."""
    folder = tmp_path_factory.mktemp("clip")
    streams = [tiny.stream("st", JOINT)]
    shrinking = {"name": "costt", "semantic_layers": 1, "ctc_view": "tgt", "streams": streams}
    tiny.checkpoint(folder / "costt", **shrinking)
    tiny.checkpoint(folder / "whole", **shrinking, reduce="none")
    tiny.checkpoint(folder / "plain")
    tiny.checkpoint(folder / "text", kind="text")
    tiny.write_clip(folder / "clip.wav", 1.0, seed=3)
    return folder


def test_the_view_has_the_shrunk_segments(folder: Path) -> None:
    translator = stk.load(folder / "costt", device="cpu", **SEARCH)
    view = view_clip(translator, folder / "clip.wav")
    assert view.segments is not None and view.ctc is not None
    assert view.segments.shape == (25,) == view.ctc.shape[:1]
    count = view.segments.max() + 1
    assert view.attention.shape == (2, len(view.pieces), count)
    labels = view.ctc.argmax(-1)
    assert ((labels == 0) == (view.segments < 0)).all()
    starts = np.flatnonzero(np.diff(labels, prepend=0) != 0)
    assert count == sum(labels[start] != 0 for start in starts)


@pytest.mark.parametrize(("name", "rows"), [("costt", 4), ("whole", 3), ("plain", 2)])
def test_the_rows_of_the_picture(folder: Path, name: str, rows: int) -> None:
    translator = stk.load(folder / name, device="cpu", **SEARCH)
    view = view_clip(translator, folder / "clip.wav", target_lang="de")
    figure = clip_picture(view)
    axes = figure.axes
    assert len(axes) == rows
    heard = "" if name == "plain" else f"{view.transcript} \u2192 "
    assert figure.get_suptitle() == heard + view.text
    weights = axes[-1].collections[0].get_array()
    np.testing.assert_array_equal(np.asarray(weights), view.attention[-1])
    shown = [label.get_text() for label in axes[-1].get_yticklabels()]
    assert shown == view.pieces
    assert all(one.get_xlim() == (0.0, view.seconds) for one in axes)
    if name == "costt":
        assert view.segments is not None
        count = int(view.segments.max()) + 1
        assert len(axes[2].patches) == count == len(axes[2].texts)
        assert axes[2].get_ylabel() == f"states\n{count} of 25"


def test_edges_of_states() -> None:
    assert edges([-1, 0, 0, -1, 1, 2, -1, -1], 4.0) == [0.5, 2.0, 2.5, 4.0]
    assert edges(range(4), 2.0) == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "clip.png"
    search = [f"{key}={value}" for key, value in SEARCH.items()]
    command = ["--checkpoint", str(folder / "costt"), "--audio", str(folder / "clip.wav")]
    assert main([*command, "--device", "cpu", "--set", *search, "--report", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--report", "clip.txt"], "--report clip.txt: not a picture"),
        (["--report", "clip.png", "--set", "search=ctc"], "pictures the decoder's attention"),
        (["--report", "clip.png", "--then", "text"], "pictures one model of speech"),
    ],
)
def test_what_cannot_be_pictured(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    options = [str(folder / word) if word == "text" else word for word in options]
    command = ["--checkpoint", str(folder / "costt"), "--audio", str(folder / "clip.wav")]
    torch.manual_seed(1)
    assert main([*command, "--device", "cpu", *options]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]
