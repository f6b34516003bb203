"""Shallow fusion: scores as defined, nothing at weight 0, batches, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import stk
from stk.cli.decode import main
from stk.config.run import RunConfig
from stk.config.strict import build
from stk.data.batch import Source
from stk.data.example import Example
from stk.decoding.fusion import load_fusion
from stk.errors import StkError
from stk.models.language_model import LanguageModel
from stk.models.registry import build_model
from stk.training.checkpoint import Contents, save_checkpoint
from stk.training.tensors import gather_weights
from tests.decoding import tiny

SEARCH = {"beam": 3, "nbest": 2, "max_extra": 2, "min_length": 4}
SIZES = {"layers": 2, "width": 16, "ffn": 24, "heads": 2, "view": "tgt"}


def language_model(directory: Path, letters: str = tiny.LETTERS, **model: Any) -> Path:
    """Write a checkpoint of an untrained causal language model."""
    named = {"name": "language_model", **SIZES, **model}
    wants = {"languages": True} if named.get("languages") else {}
    task = {"name": "causal_lm", "text": "tgt_text", "view": "tgt", **wants}
    config = build(
        RunConfig,
        {
            "output": "out",
            "model": named,
            "vocabularies": {"tgt": "vocab"},
            "streams": [tiny.stream("lm", task)],
            "training": {"max_updates": 1},
        },
    )
    torch.manual_seed(5)
    words = tiny.vocab(letters)
    network = build_model(named, {"tgt": len(words)})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    save_checkpoint(
        directory,
        Contents(
            weights=gather_weights(network),
            config=config,
            vocabs={"tgt": words},
            metrics={"update": 1},
        ),
    )
    return directory


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("fusion") / "st", ctc_layer=2, ctc_view="tgt")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("fusion") / "lm")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        Example(
            id=f"clip{i}",
            audio=tiny.write_clip(folder / f"{i}.wav", 0.4 + 0.23 * (i * 5 % 7), seed=i),
            tgt_lang="de" if i % 3 else "fr",
        )
        for i in range(5)
    ]


@pytest.mark.parametrize("keys", [{}, {"norm": "pre", "positions": "sinusoidal", "languages": 3}])
def test_a_token_at_a_time_is_the_causal_pass(keys: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_model({"name": "language_model", **SIZES, **keys}, {"tgt": 17}).double().eval()
    assert isinstance(model, LanguageModel)
    tokens = torch.randint(2, 17, (3, 6))
    languages = torch.tensor([0, 2, 1]) if keys.get("languages") else None
    table = None if languages is None else languages[:, None].expand(-1, 6)
    source = Source(tokens, torch.full((3,), 6), languages=table)
    whole = model.project(model.encode(source, causal_only=True).states)
    state = model.start(3, languages)
    for place in range(6):
        logits, state = model.step(tokens[:, place, None], state)
        torch.testing.assert_close(logits[:, 0], whole[:, place])


def test_weight_zero_is_the_baseline(speech: Path, lm: Path, clips: list[Example]) -> None:
    plain = stk.load(speech, device="cpu", **SEARCH).translate_examples(clips)
    fused = stk.load(speech, device="cpu", lm=lm, lm_weight=0.0, **SEARCH)
    assert [t.nbest for t in fused.translate_examples(clips)] == [t.nbest for t in plain]
    other = stk.load(speech, device="cpu", lm=lm, lm_weight=0.7, **SEARCH)
    assert [t.text for t in other.translate_examples(clips)] != [t.text for t in plain]


def test_scores_are_the_weighted_sum(speech: Path, lm: Path, clips: list[Example]) -> None:
    weight, options = 0.4, {**SEARCH, "length_penalty": 0.7}
    translator = stk.load(speech, device="cpu", lm=lm, lm_weight=weight, **options)
    member, fusion = translator.members[0], translator.fusion
    assert fusion is not None
    vocab = fusion.vocab
    for clip, found in zip(clips, translator.translate_examples(clips), strict=True):
        assert clip.audio is not None and clip.tgt_lang is not None
        for best in found.nbest:
            written = [*best.tokens, vocab.eos]
            heard = member.context.frontend([stk.data.audio.load_audio(clip.audio)])
            read = torch.tensor([[vocab.bos, vocab.tag(clip.tgt_lang), *best.tokens]])
            encoded = member.model.encode(heard)
            logits = member.model.decode(encoded, read, torch.tensor([read.shape[1]])).logits
            own = logits[0, 1:].log_softmax(-1)
            text = torch.tensor([[vocab.bos, *best.tokens]])  # without the tag
            states = fusion.model.encode(
                Source(text, torch.tensor([text.shape[1]])), causal_only=True
            ).states
            said = fusion.model.project(states)[0].log_softmax(-1)
            places = torch.arange(len(written))
            total = (own + weight * said)[places, written].sum()
            assert best.log_prob == pytest.approx(float(total), abs=1e-3)
            assert best.score == pytest.approx(float(total) / len(written) ** 0.7, abs=1e-3)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_batching_changes_nothing(
    speech: Path, tmp_path: Path, clips: list[Example], ctc_weight: float
) -> None:
    aware = language_model(tmp_path / "lm", languages=3)
    options = {**SEARCH, "ctc_weight": ctc_weight, "lm": aware, "lm_weight": 0.5}
    one = stk.load(speech, device="cpu", batch={"max_examples": 1}, **options)
    many = stk.load(speech, device="cpu", batch={"max_examples": 5}, **options)
    pairs = zip(one.translate_examples(clips), many.translate_examples(clips), strict=True)
    for a, b in pairs:
        assert [c.tokens for c in a.nbest] == [c.tokens for c in b.nbest]
        assert a.score == pytest.approx(b.score, abs=1e-4)


def test_from_the_command_line(
    speech: Path, lm: Path, clips: list[Example], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(clip.audio) for clip in clips]
    flags = ["--checkpoint", str(speech), "--device", "cpu", "--beam", "3", "--target-lang", "de"]
    flags += ["--set", "max_extra=2", "min_length=4", "--audio", *paths]
    assert main([*flags, "--lm", str(lm), "--lm-weight", "0.7"]) == 0
    translator = stk.load(speech, device="cpu", lm=lm, lm_weight=0.7, **{**SEARCH, "nbest": 1})
    expected = [translator.translate(path, target_lang="de").text for path in paths]
    assert capsys.readouterr().out.splitlines() == expected
    assert main([*flags, "--lm-weight", "0.7"]) == 1
    assert "--lm-weight without a language model" in capsys.readouterr().err


@pytest.mark.parametrize("weight", ["0.1", "0"])
def test_outputs_that_end_with_another_symbol(
    lm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], weight: str
) -> None:
    task = {
        "name": "cross_entropy", "source": "src_text", "source_view": "tgt",
        "begin": "tgt_lang", "end": "begin",
    }  # fmt: skip
    streams = [tiny.stream("documents", task)]
    model = tiny.checkpoint(tmp_path / "mt", kind="text", streams=streams)
    text = tmp_path / "text"
    text.write_text("abc\n")
    flags = ["--checkpoint", str(model), "--text", str(text), "--target-lang", "de"]
    refused = weight != "0"  # nothing is fused
    assert main([*flags, "--device", "cpu", "--lm", str(lm), "--lm-weight", weight]) == refused
    error = capsys.readouterr().err
    assert ("do not end with the end symbol" in error) == refused
    assert not refused or (str(model) in error and "leave --lm out" in error)


def test_outputs_longer_than_the_positions(
    speech: Path, tmp_path: Path, clips: list[Example]
) -> None:
    """Up to the last position the model reads; one token more is refused before any search."""
    short = language_model(tmp_path / "short", max_positions=8)
    options = {"device": "cpu", "lm": short, "beam": 2, "max_extra": 50, "min_length": 7}
    fits = stk.load(speech, **options, max_length=7).translate_examples(clips)
    assert {len(t.nbest[0].tokens) for t in fits} == {7}
    with pytest.raises(StkError, match="up to 8 tokens .* 8 positions .*max_length=7"):
        stk.load(speech, **options, max_length=8).translate_examples(clips)
    with pytest.raises(StkError, match="max_length=5"):
        stk.load(speech, **options, max_length=7).translate(
            clips[0].audio, target_lang="de", prefix="ab"
        )
    endless = language_model(tmp_path / "endless", positions="sinusoidal", max_positions=8)
    long = stk.load(speech, **(options | {"lm": endless, "min_length": 9}), max_length=9)
    assert len(long.translate_examples(clips)[0].nbest[0].tokens) == 9


def test_what_it_refuses(speech: Path, lm: Path, tmp_path: Path) -> None:
    with pytest.raises(StkError, match="weight is -1"):
        load_fusion(lm, -1.0)
    with pytest.raises(StkError, match="is no causal language model .*causal_lm"):
        load_fusion(speech, 0.1)
    with pytest.raises(StkError, match="takes no language model"):
        stk.load(speech, device="cpu", lm=lm, search="ctc")
    with pytest.raises(StkError, match="sampling takes no language model"):
        stk.load(speech, device="cpu", lm=lm, search="sample")
    other = language_model(tmp_path / "other", letters=" xyz")
    with pytest.raises(StkError, match="vocabulary is not the one that is written"):
        stk.load(speech, device="cpu", lm=other)
    aware = language_model(tmp_path / "aware", languages=3)
    fusion = load_fusion(aware, 0.1)
    assert fusion is not None
    with pytest.raises(StkError, match="has no tgt_lang, which the language model reads"):
        fusion._language(Example(id="x"), "tgt_lang")
    with pytest.raises(StkError, match="writes sep among the text"):
        fusion.check(fusion.vocab, ("sep",))
