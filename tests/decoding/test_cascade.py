"""Cascades of tiny untrained models: what passes between the two, and what does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import stk
from stk.cli.decode import main
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.normalise import normalise
from stk.decoding.cascade import Cascade
from stk.decoding.translator import Candidate, Translation, Translator
from stk.errors import StkError
from stk.objectives.base import Context
from tests.decoding import tiny

SEARCH = {"beam": 3, "max_extra": 2, "min_length": 4}
TEXTS = ("abc", "Jab, head!", "hgfedcba abc", "abc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    tiny.checkpoint(folder / "asr")
    tiny.checkpoint(folder / "mt", kind="text", seed=2)
    rows = []
    for i, seed in enumerate((0, 1, 2, 0)):
        name = tiny.write_clip(folder / f"{i}.wav", 0.5 + 0.1 * seed, seed=seed).name
        rows.append({"id": f"c{i}", "audio": name, "tgt_lang": "de", "src_text": TEXTS[i]})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Oracle(Translator):
    """A recogniser that hears what it is told."""

    heard: dict[str, list[str]]

    def stream(
        self, examples: Sequence[Example], *, skip_bad: Any = None
    ) -> Iterator[tuple[int, Translation]]:
        for i, example in enumerate(examples):
            texts = self.heard[example.id]
            nbest = tuple(
                Candidate(text, -0.5 * (n + 1), -float(n + 1), (5,)) for n, text in enumerate(texts)
            )
            yield i, Translation(example.id, texts[0], -0.5, nbest, 1.0, 0.1, 1)


def oracle(folder: Path, heard: dict[str, list[str]]) -> Oracle:
    found = Oracle(stk.load(folder / "asr", device="cpu").members)
    found.heard = heard
    return found


def rows(texts: Sequence[str]) -> list[Example]:
    return [Example(id=f"c{i}", src_text=text, tgt_lang="de") for i, text in enumerate(texts)]


@pytest.mark.parametrize("bridge", ["none", "lower", "lower-nopunct"])
def test_gold_transcripts_give_what_the_text_model_gives(folder: Path, bridge: Any) -> None:
    """The cascade adds nothing of its own: with one transcript the ranking is the MT's."""
    mt = stk.load(folder / "mt", device="cpu", nbest=2, **SEARCH)
    heard = {f"c{i}": [text] for i, text in enumerate(TEXTS)}
    found = Cascade(oracle(folder, heard), mt, bridge=bridge).translate_examples(rows(TEXTS))
    alone = mt.translate_examples(rows([normalise(text, bridge) for text in TEXTS]))
    assert [t.text for t in found] == [t.text for t in alone]
    assert [t.transcript for t in found] == list(TEXTS)
    for ours, theirs in zip(found, alone, strict=True):
        assert [c.tokens for c in ours.nbest] == [c.tokens for c in theirs.nbest]
        assert ours.score == pytest.approx(theirs.score - 0.5)
        assert ours.audio_seconds == 1.0 and ours.batch_seconds > 0.1


def test_the_same_hypothesis_is_translated_alike(folder: Path) -> None:
    mt = stk.load(folder / "mt", device="cpu", **SEARCH)
    heard = {"c0": ["jab"], "c1": ["hgfedcba abc"], "c2": ["jab"]}
    first, other, second = Cascade(oracle(folder, heard), mt).translate_examples(rows("xyz"))
    assert (first.text, first.nbest) == (second.text, second.nbest)
    assert other.text != first.text


def test_n_best_transcripts_are_ranked_by_both(folder: Path) -> None:
    mt = stk.load(folder / "mt", device="cpu", nbest=3, **SEARCH)
    heard = {"c0": ["abc", "jab", "abc "], "c1": ["", "cab"], "c2": ["", "  "]}
    found = Cascade(oracle(folder, heard), mt).translate_examples(rows("xyz"))
    pairs = []
    for text, score in (("abc", -0.5), ("jab", -1.0)):
        said = mt.translate(text, target_lang="de").nbest
        pairs += [(score + one.score, one.text, text) for one in said]
    pairs.sort(reverse=True)
    assert [c.score for c in found[0].nbest] == pytest.approx([p[0] for p in pairs[:3]])
    assert [(c.text, c.transcript) for c in found[0].nbest] == [p[1:] for p in pairs[:3]]
    assert found[1].transcript == "cab" and found[1].text
    assert (found[2].text, found[2].transcript, len(found[2].nbest)) == ("", "", 1)


def test_the_loss_of_the_text_model_leaves_the_recogniser_alone(folder: Path) -> None:
    """No joint gradient: a translation loss over heard text reaches the second model alone."""
    asr, mt = (stk.load(folder / name, device="cpu", **SEARCH) for name in ("asr", "mt"))
    networks = [translator.members[0].model for translator in (asr, mt)]
    for network in networks:
        network.requires_grad_(True)
    heard = asr.translate(folder / "0.wav", target_lang="de").text
    member = mt.members[0]
    example = Example(id="a", src_text=heard, tgt_text="abc", tgt_lang="de")
    batch = member.objective.collate([Item(example=example, rng=None)], member.context)  # type: ignore[arg-type]
    member.objective.forward(member.model, batch, Context())["loss"].value.backward()
    assert all(p.grad is None for p in networks[0].parameters())
    assert any(p.grad is not None for p in networks[1].parameters())


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ["--checkpoint", str(folder / "asr"), "--then", str(folder / "mt")]
    arguments += ["--manifest", str(folder / "test.jsonl"), "--output", str(output)]
    arguments += ["--device", "cpu", "--beam", "3", "--set", "max_extra=2", "min_length=4"]
    arguments += ["--then-set", "max_extra=3", "min_length=2", "--bridge", "lower-nopunct"]
    assert main([*arguments, "--transcripts", "2", "--nbest", "2"]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    asr = stk.load(folder / "asr", device="cpu", nbest=2, **SEARCH)
    mt = stk.load(folder / "mt", device="cpu", beam=3, nbest=2, max_extra=3, min_length=2)
    cascade = Cascade(asr, mt, bridge="lower-nopunct")
    for i, row in enumerate(found):
        path = folder / f"{i}.wav"
        wanted = cascade.translate(path, target_lang="de")
        assert (row["id"], row["text"]) == (f"c{i}", wanted.text)
        assert row["transcript"] == wanted.transcript
        heard = {c.text for c in asr.translate(path, target_lang="de").nbest}
        assert row["transcript"] in heard and row["audio_seconds"] > 0.4
        assert len(row["nbest"]) == 2
    assert found[0]["nbest"] == found[3]["nbest"]  # the same sound twice
    assert len({row["text"] for row in found}) > 1


def test_bad_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asr, mt = (stk.load(folder / name, device="cpu") for name in ("asr", "mt"))
    with pytest.raises(StkError, match="nothing is left to transcribe"):
        Cascade(mt, mt)
    with pytest.raises(StkError, match="second model of a cascade reads text"):
        Cascade(asr, asr)
    with pytest.raises(StkError, match="cannot sample"):
        Cascade(asr, stk.load(folder / "mt", device="cpu", search="sample"))
    base = ["--checkpoint", str(folder / "asr"), "--audio", str(folder / "0.wav")]
    for flags in (["--bridge", "lower"], ["--transcripts", "2"], ["--then-set", "beam=2"]):
        assert main([*base, *flags]) == 1
        assert f"{flags[0]} is of a cascade (name its second" in capsys.readouterr().err
    then = ["--then", str(folder / "mt"), "--device", "cpu"]
    assert main([*base, *then, "--target-lang", "de", "--transcripts", "9"]) == 1
    assert "nbest must lie between" in capsys.readouterr().err
    listed = tmp_path / "bad.txt"
    manifest = tmp_path / "bad.jsonl"
    good = {"id": "a", "audio": str(folder / "0.wav"), "tgt_lang": "de"}
    bad = [good | {"id": "b", "audio": "none.wav"}, good | {"id": "c", "tgt_lang": "es"}, good]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in bad))
    arguments = ["--checkpoint", str(folder / "asr"), *then, "--manifest", str(manifest)]
    assert main([*arguments, "--skip-bad", str(listed), "--output", str(tmp_path / "o.jsonl")]) == 0
    assert len(listed.read_text().splitlines()) == 2
    kept = [json.loads(line)["id"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert kept == ["a"]


def test_a_model_that_writes_both_lends_its_transcript(folder: Path) -> None:
    class Both(Oracle):
        def stream(self, examples: Sequence[Example], *, skip_bad: Any = None) -> Any:
            for i, found in super().stream(examples):
                nbest = [dataclasses.replace(c, text="x", transcript=c.text) for c in found.nbest]
                yield i, dataclasses.replace(found, nbest=tuple(nbest))

    both = Both(stk.load(folder / "asr", device="cpu").members)
    both.heard = {"c0": ["abc"]}
    mt = stk.load(folder / "mt", device="cpu", **SEARCH)
    (found,) = Cascade(both, mt).translate_examples(rows("x"))
    assert found.transcript == "abc"
    assert found.text == mt.translate("abc", target_lang="de").text
    assert found.score < -0.5
