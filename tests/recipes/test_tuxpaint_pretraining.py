"""Pre-training in the tuxpaint recipe, and what its measurements mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import control
import numpy as np
import probe
import pytest
import soundfile
import torch
from recipe_runs import copy_of_recipes, run

from stk.cli import train
from stk.data.batch import Source
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.data.vocab import CharVocab
from stk.errors import StkError
from stk.models.wav2vec2 import Wav2Vec2
from stk.training.assemble import load_data
from stk.training.checkpoint import Loaded, load_model
from stk.training.distributed import join

CONF = Path(__file__).resolve().parents[2] / "recipes/tuxpaint/conf/systems/xstnet"


def write_clips(data: Path, count: int, side: str) -> None:
    """Noise of 1.2 s each, with transcripts."""
    data.mkdir(exist_ok=True)
    rng, rows = np.random.default_rng(len(side)), []
    for i in range(count):
        path = data / f"{side}{i}.flac"
        soundfile.write(path, 0.1 * rng.standard_normal(19200), 16000)
        rows.append(Example(id=f"{side}{i}", audio=path, duration=1.2, src_text="Ab ba"))
    for name in (side, f"asr-{side}"):
        write_manifest(data / f"{name}.jsonl", rows)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two updates of the recipe's own training, on noise."""
    work = tmp_path_factory.mktemp("pretraining")
    write_clips(work / "data", 6, "train")
    write_clips(work / "data", 3, "dev")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORK", str(work))
        patch.setenv("SIZE", "tiny")
        patch.delenv("RUN", raising=False)
        limits = ["training.max_updates=2", "training.workers=0", "validation.every=2"]
        limits.append("training.worst_batch_first=false")
        assert train.main([str(CONF / "1-wav2vec2.yaml"), *limits]) == 0
    return work


@pytest.fixture
def loaded(work: Path) -> Loaded:
    return load_model(work / "wav2vec2")


def test_the_control_hears_nothing_but_knows_lengths(loaded: Loaded) -> None:
    trained, data = loaded.model, load_data(loaded.config, join("cpu"))
    assert isinstance(trained, Wav2Vec2)
    model = control.deaf(trained, loaded.config, data).eval()
    torch.manual_seed(0)
    places, lengths = torch.tensor([[2, 3, 7]]), torch.tensor([6400])

    def predicted(model: Wav2Vec2, samples: int) -> torch.Tensor:
        source = Source(torch.randn(1, samples), torch.tensor([samples]))
        return model.contrast(source, places).predicted.detach()

    torch.testing.assert_close(predicted(model, 6400), predicted(model, 6400))
    assert not torch.allclose(predicted(model, 6400), predicted(model, 9600))
    assert not torch.allclose(predicted(trained, 6400), predicted(trained, 6400))
    source = Source(torch.randn(1, 6400), lengths)
    targets = [m.contrast(source, places).targets for m in (trained, model)]
    torch.testing.assert_close(targets[0], targets[1])
    before = {name: p.clone() for name, p in model.state_dict().items()}
    control.train(model, control.contrastive_stream(data.streams), seed=1, updates=2)
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, before[name]) or not name.startswith(control.TARGETS), name
    assert not torch.equal(model.context.weight, before["context.weight"])


def letters_as_frames(vocab: CharVocab) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Frames that say the transcript outright, and frames that say nothing."""

    def features(samples: torch.Tensor) -> list[torch.Tensor]:
        ids = [0, *(i for label in vocab.encode("ab ba") for i in (label, 0)), 0, 0]
        told = 10.0 * torch.nn.functional.one_hot(torch.tensor(ids), len(vocab))
        return [told, torch.zeros_like(told)]

    return features


def test_a_probe_reads_what_frames_say(work: Path) -> None:
    rows = probe.probable(probe.read_manifest(work / "data" / "dev.jsonl"))
    vocab = CharVocab.of_texts(map(probe.characters, rows))
    clips = probe.Clips(rows, letters_as_frames(vocab), vocab, 16000)
    told, silent = (probe.probe(clips, clips, view, len(vocab), 200) for view in (0, 1))
    assert told["error_rate"] == 0.0 and silent["error_rate"] >= 0.5
    assert told["loss"] < 0.3 * silent["loss"]


def test_clips_too_short_to_be_written_are_left_out() -> None:
    rows = [Example(id=t, duration=0.3, src_text=t) for t in ("abc", "abcdefg", "")]
    assert [row.id for row in probe.probable(rows)] == ["abc"]


def test_all_figures(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = work / "probe.json"
    options = ["--data", str(work / "data"), "--epochs", "1", "--clips", "4", "--out", str(out)]
    probe.main(["--checkpoint", str(work / "wav2vec2" / "last"), *options])
    result = json.loads(out.read_text())
    names = [f"{name}, layer {n}" for name in ("pre-trained", "random weights") for n in (1, 2, 3)]
    assert list(result["probes"]) == ["filterbank", *names]
    assert result["updates"] == 2 and result["trained"]["codes"] == 128.0
    for side in ("trained", "control"):
        assert 0.0 <= result[side]["accuracy"] <= 1.0
        assert 2.0 <= result[side]["code_perplexity"] <= 128.0
    for figures in result["probes"].values():
        assert figures["loss"] > 0.0 and figures["error_rate"] >= 0.0
    printed = capsys.readouterr().out
    assert "After 2 updates" in printed and "| random weights, layer 3 |" in printed


def test_another_model_is_refused(loaded: Loaded, work: Path) -> None:
    other = Loaded(torch.nn.Linear(1, 1), loaded.config, {}, loaded.frontend, loaded.path)
    with pytest.raises(StkError, match="is no wav2vec 2.0"):
        probe.measure(other, work / "data", 1, 0)
    with pytest.raises(StkError, match="no contrastive stream"):
        control.contrastive_stream([])


FETCH = """
import sys
from pathlib import Path
import numpy as np, soundfile
root = Path(sys.argv[2]) / "usr/share/tuxpaint/stamps/food"
root.mkdir(parents=True)
rng = np.random.default_rng(0)
for i in range(60):
    (root / f"stamp{i}.txt").write_text(f"A thing {i}.\\nfr.utf8=Une chose {i}.\\n")
    soundfile.write(root / f"stamp{i}_desc_fr.ogg", 0.1 * rng.standard_normal(30000), 22050)
"""


@pytest.mark.slow
def test_from_end_to_end(tmp_path: Path, warm: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    folder = recipes / "tuxpaint"
    (folder / "local" / "fetch.py").write_text(FETCH)
    (folder / "downloads").mkdir()
    given = ["--size", "tiny", "--updates", "2", "--epochs", "1"]
    script, programs = folder / "pretraining.sh", recipes / "bin"
    done = run(script, *given, programs=programs, warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    work = folder / "exp" / "pretraining-tiny"
    assert json.loads((work / "probe.json").read_text())["updates"] == 2
    assert (work / "probe.md").read_text() in done.stdout
    again = run(script, *given, programs=programs, warm=warm)
    assert again.returncode == 0 and again.stdout.count("done before") == 3
    wrong = run(script, "--clips", "few", programs=programs)
    assert wrong.returncode == 1 and "--clips takes a whole number" in wrong.stderr
