"""Outputs that begin and end with a language symbol, and documents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stk
from stk.data.batch import Source
from stk.data.example import Example
from stk.errors import StkError
from stk.training.checkpoint import load_model
from tests.decoding import tiny

TASK = {
    "name": "cross_entropy", "source": "src_text", "source_view": "tgt",
    "source_suffix": "src_lang", "begin": "tgt_lang", "end": "begin", "source_lines": True,
}  # fmt: skip
LIMIT = 12
TEXTS = ("abc de\nfgh", "jihg\nab cd\nee", "hhh", "bad cafe")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that write eos inside an output, and end others before the limit."""
    for seed in range(40):
        directory = tmp_path_factory.mktemp("layout") / "checkpoint"
        streams = [tiny.stream("documents", TASK)]
        tiny.checkpoint(directory, kind="text", seed=seed, streams=streams)
        written = [by_hand(directory, row, LIMIT) for row in rows()]
        if any(3 in ids for ids in written) and any(len(ids) < LIMIT for ids in written):
            return directory
    raise AssertionError("none of the seeds writes what is to be tested")


def rows() -> list[Example]:
    """Texts into two languages, so that one batch has several begins and ends."""
    return [
        Example(id=f"{i}", src_text=text, src_lang="de", tgt_lang="fr" if i % 2 else "de")
        for i, text in enumerate(TEXTS)
    ]


def by_hand(directory: Path, example: Example, limit: int) -> list[int]:
    """Greedy output, token by token, from whole passes."""
    loaded = load_model(directory)
    vocab, model = loaded.vocabs["tgt"], loaded.model

    assert example.src_text and example.src_lang and example.tgt_lang
    ids = [i for line in example.src_text.splitlines() for i in (*vocab.encode(line), vocab.eos)]
    source = torch.tensor([[*ids, vocab.tag(example.src_lang)]])
    encoded = model.encode(Source(source, torch.tensor([source.shape[1]])))
    tag = vocab.tag(example.tgt_lang)
    closed = [vocab.pad, vocab.bos, vocab.mask, *(vocab.tag(t) for t in vocab.tags)]
    closed.remove(tag)
    written = [tag]
    while len(written) <= limit:
        target = torch.tensor([written])
        logits = model.decode(encoded, target, torch.tensor([len(written)])).logits[0, -1]
        logits[closed] = -torch.inf
        written.append(int(logits.argmax()))
        if written[-1] == tag:
            return written[1:-1]
    return written[1:]


def test_outputs_end_with_the_language_they_are_in(checkpoint: Path) -> None:
    together = stk.load(checkpoint, device="cpu", beam=1, max_length=LIMIT, max_ratio=99.0)
    found = together.translate_examples(rows())
    expected = [by_hand(checkpoint, row, LIMIT) for row in rows()]
    assert [list(f.nbest[0].tokens) for f in found] == expected
    vocab = load_model(checkpoint).vocabs["tgt"]
    for one, tokens in zip(found, expected, strict=True):
        parts: list[list[int]] = [[]]
        for token in tokens:
            parts.append([]) if token == vocab.eos else parts[-1].append(token)
        assert one.text == "\n".join(vocab.decode(part) for part in parts if part)


@pytest.mark.parametrize("beam", [1, 3])
def test_batching_never_changes_a_document(checkpoint: Path, beam: int) -> None:
    options = {"beam": beam, "max_length": 10, "min_length": 2}
    alone = stk.load(checkpoint, device="cpu", batch={"max_examples": 1}, **options)
    together = stk.load(checkpoint, device="cpu", batch={"max_examples": 9}, **options)
    for a, b in zip(
        alone.translate_examples(rows()), together.translate_examples(rows()), strict=True
    ):
        assert a.nbest[0].tokens == b.nbest[0].tokens and len(a.nbest[0].tokens) >= 2
        assert a.score == pytest.approx(b.score, abs=1e-5)


def test_missing_languages(checkpoint: Path) -> None:
    translator = stk.load(checkpoint, device="cpu", beam=1)
    with pytest.raises(StkError, match="has no tgt_lang"):
        translator.translate("abc", source_lang="de")
    with pytest.raises(StkError, match="has no src_lang"):
        translator.translate("abc", target_lang="de")
    with pytest.raises(StkError, match="no tag 'es'"):
        translator.translate("abc", source_lang="de", target_lang="es")
