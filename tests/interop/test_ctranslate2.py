"""CTranslate2 writes what stk writes, from trained-here and from imported models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import stk
from stk.cli.data import main as stk_data
from stk.data.vocab import CharVocab, Vocab, load_vocab
from stk.errors import StkError
from stk.interop.checkpoint import save_imported
from stk.interop.ctranslate2 import write_ctranslate2
from stk.interop.text import read_text_model
from stk.models.registry import build_model
from stk.training.checkpoint import load_model
from tests.interop.text_models import LANGUAGES, SENTENCES, save_marian, save_mbart, spread

ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed")

KEYS: dict[str, Any] = {
    "name": "text_transformer", "encoder_layers": 2, "decoder_layers": 2, "width": 32, "ffn": 64,
    "heads": 4,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "post-norm": {"norm": "post", "tie": "all"},
    "pre-norm, gelu": {"norm": "pre", "activation": "gelu", "tie": "none"},
    "learned positions": {
        "positions": "learned", "max_positions": 200, "activation": "silu", "output_bias": True,
        "embedding_norm": True, "embedding_scale": False, "norm_eps": 1e-3,
    },
}  # fmt: skip


def save(directory: Path, objective: dict[str, Any], seed: int = 1, **keys: Any) -> None:
    """A checkpoint with random weights over characters."""
    vocab = CharVocab.of_texts(SENTENCES, ("de", "en"))
    torch.manual_seed(2)
    model = spread(build_model({**KEYS, **keys}, {"src": len(vocab), "tgt": len(vocab)}), seed)
    save_imported(
        model, directory, model_keys={**KEYS, **keys}, vocabs={"src": vocab, "tgt": vocab},
        objective={"name": "cross_entropy", "source": "src_text", **objective},
        source=directory / "none",
    )  # fmt: skip


def pieces(vocab: Vocab, *ids: int) -> list[str]:
    return [vocab.piece(i) for i in ids]


def outputs(directory: Path, sources: list[list[str]], prefix: list[str]) -> list[list[str]]:
    """What CTranslate2 writes after the prefix, for each source alone."""
    translator = ctranslate2.Translator(str(directory), device="cpu", intra_threads=1)
    found = []
    for source in sources:
        result = translator.translate_batch(
            [source], target_prefix=[prefix], beam_size=1, max_decoding_length=30
        )
        # Whether a prefix counts as written depends on whether it is read first of all.
        found.append([t for t in result[0].hypotheses[0] if t not in prefix][:25])
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_output_is_equal(kind: str, tmp_path: Path) -> None:
    written = set()
    for seed in range(3):
        ours, theirs = tmp_path / f"ours{seed}", tmp_path / f"theirs{seed}"
        task = {"prefix": "tgt_lang", "source_prefix": "src_lang"}
        save(ours, task, seed, **MODELS[kind])
        assert stk_data(["export", str(ours), "--to", "ctranslate2", "--out", str(theirs)]) == 0
        source = load_vocab(theirs / "vocab" / "src")
        target = load_vocab(theirs / "vocab" / "tgt")
        tokens = [
            pieces(source, source.tag("de"), *source.encode(t), source.eos) for t in SENTENCES
        ]
        expected = outputs(theirs, tokens, pieces(target, target.tag("en")))
        translator = stk.load(ours, beam=1, max_length=25, max_ratio=99.0)
        found = [translator.translate(t, source_lang="de", target_lang="en") for t in SENTENCES]
        assert [pieces(target, *one.nbest[0].tokens) for one in found] == expected
        written |= set(map(tuple, expected))
    assert len(written) > 2


def test_imported_marian_goes_on_to_ctranslate2(tmp_path: Path) -> None:
    save_marian(tmp_path / "hf")
    compare_imported(tmp_path, [], {}, {})


def test_imported_mbart_goes_on_to_ctranslate2(tmp_path: Path) -> None:
    save_mbart(tmp_path / "hf")
    langs = {"source_lang": "de", "target_lang": "en"}
    compare_imported(tmp_path, ["<en>"], langs, {"languages": LANGUAGES})


def compare_imported(
    tmp_path: Path, prefix: list[str], langs: dict[str, str], options: dict[str, Any]
) -> None:
    read_text_model(tmp_path / "hf", **options).save(tmp_path / "ours")
    write_ctranslate2(load_model(tmp_path / "ours"), tmp_path / "theirs")
    source = load_vocab(tmp_path / "theirs" / "vocab" / "src")
    target = load_vocab(tmp_path / "theirs" / "vocab" / "tgt")
    after = pieces(source, source.tag("de")) if langs else []
    tokens = [[*pieces(source, *source.encode(t), source.eos), *after] for t in SENTENCES]
    theirs = outputs(tmp_path / "theirs", tokens, prefix)
    translator = stk.load(tmp_path / "ours", beam=1, max_length=25, max_ratio=99.0)
    ours = [translator.translate(t, **langs).nbest[0].tokens for t in SENTENCES]
    assert [pieces(target, *tokens) for tokens in ours] == theirs
    assert len(set(map(tuple, theirs))) > 2


def test_what_cannot_be_written(tmp_path: Path) -> None:
    save(tmp_path / "languages", {}, languages=2)
    with pytest.raises(StkError, match="no language embeddings"):
        write_ctranslate2(load_model(tmp_path / "languages"), tmp_path / "out")
    save(tmp_path / "documents", {"begin": "tgt_lang", "end": "begin"})
    with pytest.raises(StkError, match="end with eos"):
        write_ctranslate2(load_model(tmp_path / "documents"), tmp_path / "out")
    save(tmp_path / "fine", {})
    with pytest.raises(StkError, match="no quantization 'int3'"):
        write_ctranslate2(load_model(tmp_path / "fine"), tmp_path / "out", quantization="int3")
    assert not (tmp_path / "out").exists()
    write_ctranslate2(load_model(tmp_path / "fine"), tmp_path / "out", quantization="int8")
    with pytest.raises(StkError, match="already exists"):
        write_ctranslate2(load_model(tmp_path / "fine"), tmp_path / "out")
