"""BERT features against transformers itself, sentence by sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stk.cli.data import main
from stk.data.bert_features import KIND, text_digest
from stk.data.sidecar import Sidecar

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "half", "past", "three", "##s", "one")
TEXTS = ("half past three", "ones", "one past half past threes")


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A tiny BERT with random weights, as save_pretrained leaves it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(1)
    directory = tmp_path / "bert"
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 16, "vocab_size": len(WORDS)}
    BertModel(BertConfig(**sizes)).save_pretrained(directory)
    vocab = {word: i for i, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocab).save_pretrained(directory)
    return directory


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    rows = [{"id": f"r{i}", "src_text": text, "src_lang": "en"} for i, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("pooled", [False, True])
def test_features_are_those_of_transformers(
    bert: Path, manifest: Path, tmp_path: Path, pooled: bool
) -> None:
    from transformers import AutoTokenizer, BertModel

    arguments = ["bert", str(manifest), "--model", str(bert), "--out", str(tmp_path / "side")]
    assert main([*arguments, *(["--pooled"] if pooled else [])]) == 0
    sidecar = Sidecar(tmp_path / "side")
    sidecar.expect(kind=KIND, text="src_text", pooled=pooled)
    model, tokenizer = BertModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        wanted = states[:1] if pooled else states[1:-1]
        found = sidecar[f"r{i}"]
        torch.testing.assert_close(found["states"].float(), wanted, rtol=2e-3, atol=2e-3)
        assert torch.equal(found["text"], text_digest(text))


def test_another_bert_makes_another_sidecar(bert: Path, manifest: Path, tmp_path: Path) -> None:
    arguments = ["bert", str(manifest), "--model", str(bert), "--out"]
    assert main([*arguments, str(tmp_path / "a")]) == 0 == main([*arguments, str(tmp_path / "b")])
    assert Sidecar(tmp_path / "a").made_by == Sidecar(tmp_path / "b").made_by
    weights = bert / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert main([*arguments, str(tmp_path / "c")]) == 0
    assert Sidecar(tmp_path / "c").made_by != Sidecar(tmp_path / "a").made_by


def test_bad_input(
    bert: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = ["--out", str(tmp_path / "side")]
    assert main(["bert", str(manifest), "--model", str(tmp_path / "none"), *end]) == 1
    assert "config.json is missing" in capsys.readouterr().err
    base = ["bert", str(manifest), "--model", str(bert), *end]
    assert main([*base, "--field", "tgt_text"]) == 1
    assert f"{manifest}:1: " in (error := capsys.readouterr().err) and "has no tgt_text" in error
    row = {"id": "long", "src_text": " ".join(["one"] * 40), "src_lang": "en"}
    manifest.write_text(manifest.read_text() + json.dumps(row) + "\n")
    assert main(base) == 1
    assert f"{manifest}:4: " in (error := capsys.readouterr().err) and "reads at most 16" in error
    (bert / "model.safetensors").unlink()
    assert main(base) == 1
    assert "not a whole Hugging Face model" in capsys.readouterr().err
    assert not (tmp_path / "side").exists()
