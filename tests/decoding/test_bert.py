"""BERT features from a masked language model of stk's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stk.cli.data import main
from stk.cli.train import main as train
from stk.data.batch import Source
from stk.data.bert_features import KIND, text_digest
from stk.data.sidecar import Sidecar
from stk.data.vocab import CharVocab
from stk.training.checkpoint import WEIGHTS, load_model, resolve_checkpoint
from stk.training.tensors import weights_digest

TEXTS = ("half past", "one", "one past half past")


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a run over three texts."""
    rows = [{"id": f"r{i}", "src_text": text, "src_lang": "en"} for i, text in enumerate(TEXTS)]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    CharVocab.of_texts(TEXTS, ("en",)).save(tmp_path / "vocab")
    model = {"name": "language_model", "layers": 1, "width": 8, "ffn": 8, "heads": 2}
    stream = {"name": "text", "manifests": [str(manifest)], "batch": {"max_examples": 3}}
    return {
        "output": str(tmp_path / "bert"),
        "model": {**model, "view": "bert", "max_positions": 24},
        "vocabularies": {"bert": str(tmp_path / "vocab")},
        "streams": [{**stream, "objective": {"name": "masked_lm", "view": "bert"}}],
        "training": {"max_updates": 2, "workers": 0},
    }


def trained(plain: dict[str, Any], tmp_path: Path) -> str:
    conf = tmp_path / "bert.yaml"
    conf.write_text(yaml.safe_dump(plain))
    assert train([str(conf)]) == 0
    return str(plain["output"])


@pytest.mark.parametrize("pooled", [False, True])
def test_features_are_the_states_of_each_text_alone(
    plain: dict[str, Any], tmp_path: Path, pooled: bool
) -> None:
    run, out = trained(plain, tmp_path), tmp_path / "side"
    command = ["bert", str(tmp_path / "train.jsonl"), "--model", run, "--out", str(out)]
    assert main([*command, *(["--pooled"] if pooled else [])]) == 0
    loaded, sidecar = load_model(run), Sidecar(out)
    digest = weights_digest(resolve_checkpoint(run) / WEIGHTS)
    sidecar.expect(kind=KIND, text="src_text", pooled=pooled, weights=digest)
    vocab = loaded.vocabs["bert"]
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([[vocab.bos, *vocab.encode(text), vocab.eos]])
        with torch.no_grad():
            states = loaded.model.encode(Source(ids, torch.tensor([ids.shape[1]]))).states[0]
        wanted = states[:1] if pooled else states[1:-1]
        found = sidecar[f"r{i}"]
        torch.testing.assert_close(found["states"].float(), wanted, rtol=2e-3, atol=2e-3)
        assert torch.equal(found["text"], text_digest(text))


def test_bad_input(
    plain: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = trained(plain, tmp_path), tmp_path / "side"
    manifest = tmp_path / "train.jsonl"
    row = {"id": "long", "src_text": "one past half past one half", "src_lang": "en"}
    manifest.write_text(manifest.read_text() + json.dumps(row) + "\n")
    command = ["bert", str(manifest), "--out", str(out), "--model"]
    assert main([*command, run]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{manifest}:4: example 'long' has 29 pieces, BERT reads at most 24" in error
    (tmp_path / "empty").mkdir()
    assert main([*command, str(tmp_path / "empty")]) == 1
    assert str(tmp_path / "empty") in capsys.readouterr().err.splitlines()[-1]
    text = {"encoder_layers": 1, "decoder_layers": 1, "width": 8, "ffn": 8, "heads": 2}
    plain["model"] = {"name": "text_transformer", "source_view": "bert", **text}
    plain["model"]["target_view"] = "bert"
    plain["streams"][0]["objective"] = {
        "name": "cross_entropy",
        "source": "src_text",
        "source_view": "bert",
        "target": "src_text",
        "target_view": "bert",
    }
    plain["output"] = str(tmp_path / "text")
    assert main([*command, trained(plain, tmp_path)]) == 1
    assert "is no language model" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()
