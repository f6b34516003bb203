"""mBART from the outside: packing, denoising, tuning, documents, translation without pairs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from stk.cli import data, decode, train
from stk.data.manifest import read_manifest
from stk.data.vocab import CharVocab, load_vocab
from stk.objectives.online_back_translation import OnlineBackTranslation
from stk.training.metrics import read_metrics

PAIRS = (("ab ba", "xy yx"), ("aab", "xxy"), ("b a", "y x"), ("bb", "yy"), ("ba ab a", "yx xy x"))
VIEWS = {"source_view": "text", "target_view": "text"}
PARTS = {"encoder": "encoder", "decoder": "decoder"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sentences of two documents in two languages, alone and as pairs; a vocabulary."""
    mono: dict[str, list[str]] = {"de": [], "en": []}
    pairs = []
    for i, texts in enumerate(PAIRS):
        doc, languages = f"d{i // 3}", ("de", "en")
        for text, language in zip(texts, languages, strict=True):
            row = {"id": f"{language}{i}", "src_text": text, "src_lang": language}
            mono[language].append(json.dumps(row | {"doc": f"{doc}-{language}"}) + "\n")
        row = {"id": f"{i}", "doc": doc, "src_text": texts[0], "src_lang": "de"}
        pairs.append(json.dumps(row | {"tgt_text": texts[1], "tgt_lang": "en"}) + "\n")
    for language, rows in mono.items():
        (tmp_path / f"{language}.jsonl").write_text("".join(rows))
    (tmp_path / "pairs.jsonl").write_text("".join(pairs))
    CharVocab.of_texts([t for pair in PAIRS for t in pair], ("de", "en")).save(tmp_path / "vocab")
    return tmp_path


def pack(folder: Path, *words: str) -> None:
    vocab = ["--vocab", str(folder / "vocab")]
    assert data.main(["pack", *words, *vocab, "--limit", "14"]) == 0


def trained(folder: Path, name: str, streams: list[dict[str, Any]], **changes: Any) -> Path:
    """Train for three updates; return the run's directory."""
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "ffn": 32, "heads": 2}
    run = {
        "output": str(folder / name),
        "model": {"name": "text_transformer", "tie": "all", "embedding_norm": True, **sizes}
        | {"positions": "learned", "max_positions": 40, "dropout": 0.1, **VIEWS},
        "vocabularies": {"text": str(folder / "vocab")},
        "streams": [stream | {"batch": {"max_examples": 4}} for stream in streams],
        "optim": {"lr": 0.01},
        "training": {"max_updates": 3, "log_every": 1, "workers": 0, "device": "cpu"}
        | {"worst_batch_first": False},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(run | changes))
    assert train.main([str(path)]) == 0
    lines = read_metrics(folder / name / "metrics.jsonl")
    assert [line["update"] for line in lines if line["kind"] == "train"] == [1, 2, 3]
    return folder / name


def test_mbart_from_end_to_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, documents = folder / "packed.jsonl", folder / "documents.jsonl"
    mono = [str(folder / f"{language}.jsonl") for language in ("de", "en")]
    pack(folder, *mono, "--out", str(packed))
    pack(folder, str(folder / "pairs.jsonl"), "--field", "both", "--out", str(documents))
    texts = [row.src_text for row in read_manifest(packed)]  # 13 tokens and the language at most
    assert texts == ["ab ba\naab", "b a", "bb\nba ab a", "xy yx\nxxy", "y x", "yy\nyx xy x"]
    denoising = {"name": "denoising", "view": "text", "infill": 0.35, "layout": "mbart"}
    stream = {"name": "denoising", "manifests": [str(packed)], "objective": denoising}
    before = trained(folder, "mbart", [stream])

    start = [{"checkpoint": str(before), "components": PARTS}]
    task: dict[str, Any] = {
        "name": "cross_entropy",
        "source": "src_text",
        **VIEWS,
        "source_suffix": "src_lang",
    }
    task |= {"begin": "tgt_lang", "end": "begin", "source_lines": True}
    tuning = {"name": "mt", "manifests": [str(documents)], "objective": task}
    idle = {"optim": {"lr": 1e-9}}
    tuned = trained(folder, "tuned", [tuning], init_from=start, **idle)
    (one,), (two,) = (sorted(run.glob("last/model.safetensors")) for run in (before, tuned))
    weights = load_file(one)
    for name, tensor in load_file(two).items():  # it went on from there
        assert tensor.allclose(weights[name], atol=1e-6), name

    out = folder / "out.jsonl"
    words = ["--checkpoint", str(tuned), "--manifest", str(documents), "--output", str(out)]
    options = ["--device", "cpu", "--beam", "2", "--set", "max_extra=3", "min_length=4"]
    assert decode.main([*words, *options]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["0", "2", "3"]
    vocab = load_vocab(folder / "vocab")
    for row in rows:
        parts: list[list[int]] = [[]]
        for token in row["nbest"][0]["tokens"]:
            assert token not in {vocab.tag(tag) for tag in vocab.tags}
            parts.append([]) if token == vocab.eos else parts[-1].append(token)
        assert row["text"] == "\n".join(vocab.decode(part) for part in parts if part)

    counts = folder / "en.npy"
    command = ["counts", mono[1], "--vocab", str(folder / "vocab"), "--out", str(counts)]
    assert data.main(command) == 0
    back: dict[str, Any] = {
        "name": "online_back_translation",
        "view": "text",
        "other": "en",
        "layout": "mbart",
    }
    back |= {"counts": str(counts), "ban_below": 0.01, "ban_until": 2}
    stream = {"name": "back", "manifests": [mono[0]], "objective": back}
    seen, translated = [], OnlineBackTranslation.translated

    def looking(self: OnlineBackTranslation, batch: Any, context: Any) -> Any:
        def generate(*args: Any, **options: Any) -> list[list[int]]:
            written: list[list[int]] = context.generate(*args, **options)
            letters = {i for ids in written for i in ids}
            seen.append((context.step + 1, letters & {*options["banned"]}, options["banned"]))
            return written

        return translated(self, batch, replace(context, generate=generate))

    monkeypatch.setattr(OnlineBackTranslation, "translated", looking)
    trained(folder, "unsupervised", [stream], init_from=start)
    german = {*vocab.encode("ab")}
    assert [(update, german <= {*banned}) for update, _, banned in seen] == [
        (1, True), (2, True), (3, False),
    ]  # fmt: skip
    assert not any(written for _, written, _ in seen)
