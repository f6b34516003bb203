"""Pictures hold what the model computed, and the page holds the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import stk
from stk.cli.report import main
from stk.data.batch import Source
from stk.errors import StkError
from stk.reports.clip import attention_picture, ctc_picture, view_clip
from stk.reports.curve import learning_curve
from stk.reports.run import example_table, figure_table
from stk.scoring.files import Outputs, References
from tests.decoding import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's output directory: a checkpoint, figures and a clip."""
    folder = tmp_path_factory.mktemp("run")
    tiny.checkpoint(folder / "best", ctc_layer=2, ctc_view="tgt")
    tiny.write_clip(folder / "clip.wav", 1.0, seed=3)
    lines = [{"kind": "train", "update": u, "loss": 5.0 / u} for u in range(1, 9)]
    lines[3]["loss"] = None  # type: ignore[assignment]
    lines += [{"kind": "valid", "update": u, "loss": 6.0 / u, "bleu": 9.0 * u} for u in (4, 8)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_view_is_what_the_model_computes(run: Path) -> None:
    translator = stk.load(run, device="cpu", beam=2, min_length=3, max_extra=0)
    view = view_clip(translator, run / "clip.wav", target_lang="de")
    found = translator.translate(run / "clip.wav", target_lang="de")
    assert view.text == found.text
    assert len(view.pieces) == len(found.nbest[0].tokens) + 1 and view.pieces[-1] == "</s>"
    assert view.seconds == pytest.approx(1.0)
    assert view.frames.shape == (98, 20)
    assert view.attention.shape == (2, len(view.pieces), 25)
    np.testing.assert_allclose(view.attention.sum(-1), 1.0, rtol=1e-5)
    assert view.ctc is not None and view.ctc.shape == (25, len(view.ctc_pieces))
    np.testing.assert_allclose(view.ctc.sum(-1), 1.0, rtol=1e-5)


def test_the_attention_is_that_of_the_decoder(run: Path) -> None:
    """Weights times values, through the output layer, are what the decoder's layer returned."""
    translator = stk.load(run, device="cpu")
    model = translator.members[0].model
    source = Source(torch.randn(1, 40, 20), torch.tensor([40]))
    encoded = model.encode(source)
    target, lengths = torch.tensor([[2, 12, 13]]), torch.tensor([3])
    layer = model.decoder.layers[1].cross_attention
    returned: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: returned.append(output))
    model.decode(encoded, target, lengths)
    handle.remove()
    weights = model.cross_attention(encoded, target, lengths)[1]
    value = layer.memory(encoded.states).unflatten(-1, (2, 2, -1))[:, :, 1].transpose(1, 2)
    mixed = layer.output((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, returned[0].view_as(mixed), atol=1e-5, rtol=1e-4)


def test_pictures_show_every_piece(run: Path) -> None:
    translator = stk.load(run, device="cpu", beam=2, min_length=3, max_extra=0)
    view = view_clip(translator, run / "clip.wav", target_lang="fr")
    figure = attention_picture(view)
    spectrogram, *layers = figure.axes
    assert spectrogram.get_title() == view.text
    assert len(layers) == 2
    for axes, weights in zip(layers, view.attention, strict=True):
        assert [label.get_text() for label in axes.get_yticklabels()] == view.pieces
        np.testing.assert_array_equal(axes.images[0].get_array(), weights)
    over = ctc_picture(view).axes[1]
    assert over.lines[0].get_label() == "blank"
    assert view.ctc is not None
    shown = int((view.ctc.max(axis=0)[1:] >= 0.2).sum())
    assert len(over.lines) == 1 + shown and shown > 0


def test_the_learning_curve_leaves_out_what_was_not_finite(run: Path, tmp_path: Path) -> None:
    losses, scores = learning_curve(run).axes
    train, valid = losses.lines
    assert list(train.get_xdata()) == [1, 2, 3, 5, 6, 7, 8]
    assert list(valid.get_ydata()) == [1.5, 0.75]
    assert [line.get_label() for line in scores.lines] == ["bleu"]
    with pytest.raises(StkError, match="no figures of training"):
        learning_curve(tmp_path)


def test_the_page_is_one_file_with_everything(run: Path, tmp_path: Path) -> None:
    figures, scores = tmp_path / "figures.json", tmp_path / "scores.json"
    figures.write_text(json.dumps({"real_time_factor": 0.25, "nothing": None}))
    score = {"system": "out.jsonl", "group": None, "name": "BLEU", "value": 87.654}
    scores.write_text(json.dumps({"scores": [{**score, "sentences": 3, "signature": "sig"}]}))
    decoded, manifest = tmp_path / "decoded.jsonl", tmp_path / "test.jsonl"
    decoded.write_text('{"id": "a", "text": "<b>eins"}\n')
    manifest.write_text('{"id": "a", "src_text": "one", "tgt_text": "ein"}\n')
    page = tmp_path / "report" / "index.html"
    named = {"figures": figures, "scores": scores, "decoded": decoded, "manifest": manifest}
    extra = [text for key, value in named.items() for text in (f"--{key}", str(value))]
    clip = ["--audio", str(run / "clip.wav"), "--target-lang", "de"]
    assert main(["--run", str(run), "--output", str(page), *extra, *clip]) == 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "&lt;b&gt;eins" in text and "87.65" in text and "real time factor" in text
    assert "nothing" not in text and "src=http" not in text
    pictures = sorted(path.name for path in page.parent.iterdir())
    assert pictures == ["attention.png", "ctc.png", "curve.png", "index.html"]


def test_a_model_without_ctc_says_so(run: Path, tmp_path: Path) -> None:
    tiny.checkpoint(tmp_path / "best")
    (tmp_path / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
    page = tmp_path / "page.html"
    clip = ["--audio", str(run / "clip.wav"), "--target-lang", "de"]
    assert main(["--run", str(tmp_path), "--output", str(page), *clip]) == 0
    assert "no CTC head" in page.read_text()
    view = view_clip(stk.load(tmp_path, device="cpu"), run / "clip.wav", target_lang="de")
    with pytest.raises(StkError, match="no CTC head"):
        ctc_picture(view)
    text_model = tiny.checkpoint(tmp_path / "text", kind="text")
    with pytest.raises(StkError, match="need a model of speech"):
        view_clip(stk.load(text_model, device="cpu"), run / "clip.wav")


def test_examples_are_spread_over_the_test_set() -> None:
    texts = [str(index) for index in range(100)]
    table = example_table(
        Outputs(texts, None, Path("hyp")), References(texts, None, Path("ref")), count=4
    )
    assert [row[1] for row in table.rows] == ["0", "25", "50", "75"]
    assert figure_table({"a": 1, "b": None, "c": 0.123456}).rows == [["a", "1"], ["c", "0.1235"]]


def test_the_report_refuses_what_does_not_fit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--run", str(run), "--output", str(tmp_path / "page.html")]
    assert main([*base, "--decoded", "x.jsonl"]) == 1
    assert "go together" in capsys.readouterr().err
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert main([*base, "--figures", str(broken)]) == 1
    assert "not JSON" in capsys.readouterr().err
