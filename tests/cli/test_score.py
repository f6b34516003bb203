"""``stk-score``: plain lines, decoding output beside a manifest, groups, comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import sacrebleu

from stk.cli.score import main

REFERENCES = [
    "The cat is on the mat.",
    "He said hello to the world!",
    "It is a quarter past seven in the evening.",
    "The train leaves on the third of May.",
]
GOOD = [
    "The cat is on the mat.",
    "He said hello to a world!",
    "It is a quarter past seven this evening.",
    "The train leaves on the third of May.",
]
BAD = [
    "A cat was on the mat.",
    "She said hello to a world!",
    "It is seven in the evening.",
    "A train left on the third of June.",
]


def lines(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(text + "\n" for text in texts))
    return str(path)


def outputs(path: Path, texts: Sequence[str], ids: Sequence[str]) -> str:
    rows = [{"id": i, "text": text, "score": -1.0} for i, text in zip(ids, texts, strict=True)]
    return lines(path, [json.dumps(row) for row in rows])


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    rows = [
        {
            "id": f"r{i}",
            "src_text": text.lower(),
            "src_lang": "fr" if i % 2 else "es",
            "tgt_text": text,
            "tgt_lang": "en",
        }
        for i, text in enumerate(REFERENCES)
    ]
    return lines(tmp_path / "ref.jsonl", [json.dumps(row) for row in rows])


def test_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp, ref = lines(tmp_path / "hyp", GOOD), lines(tmp_path / "ref", REFERENCES)
    figures = tmp_path / "figures.json"
    assert main(["--hyp", hyp, "--ref", ref, "--lang", "en", "--json", str(figures)]) == 0
    printed = capsys.readouterr().out.splitlines()
    expected = sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score
    assert printed[0].startswith(f"BLEU = {expected:.2f} (4 sentences, nrefs:1|case:mixed")
    assert printed[1].startswith("chrF2 = ")
    scores = json.loads(figures.read_text())["scores"]
    assert scores[0]["value"] == pytest.approx(expected)
    assert [score["name"] for score in scores] == ["BLEU", "chrF2"]


def test_decoding_output_is_matched_by_id(
    tmp_path: Path, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = ["r2", "r0", "r3", "r1"]
    hyp = outputs(tmp_path / "hyp.jsonl", [GOOD[int(name[1])] for name in ids], ids)
    assert main(["--hyp", hyp, "--ref", manifest, "--by", "src_lang"]) == 0
    printed = capsys.readouterr().out.splitlines()
    spanish = sacrebleu.corpus_bleu(GOOD[::2], [REFERENCES[::2]]).score
    whole = sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score
    assert printed[0].startswith(f"es: BLEU = {spanish:.2f} (2 sentences")
    assert printed[-2].startswith(f"BLEU = {whole:.2f} (4 sentences")
    assert main(["--hyp", hyp, "--ref", manifest, "--field", "src_text"]) == 0
    assert capsys.readouterr().out.startswith("WER = ")


def test_the_manifests_language_chooses_the_tokeniser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "a", "tgt_text": "他在桌子上看到了一只猫", "tgt_lang": "zh"}
    ref = lines(tmp_path / "ref.jsonl", [json.dumps(row)])
    hyp = outputs(tmp_path / "hyp.jsonl", [row["tgt_text"]], ["a"])
    assert main(["--hyp", hyp, "--ref", ref, "--metric", "bleu"]) == 0
    printed = capsys.readouterr().out
    assert "tok:zh" in printed and "BLEU = 100.00" in printed


def test_systems_are_compared_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = lines(tmp_path / "bad", BAD), lines(tmp_path / "good", GOOD)
    ref, figures = lines(tmp_path / "ref", REFERENCES), tmp_path / "figures.json"
    arguments = ["--hyp", bad, good, "--ref", ref, "--metric", "chrf", "wer", "--bootstrap", "50"]
    assert main([*arguments, "--json", str(figures)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6
    assert printed[4].startswith(f"{bad} -> {good}: chrF2 ") and "p = " in printed[4]
    comparisons = json.loads(figures.read_text())["comparisons"]
    assert comparisons[0]["difference"] > 0 > comparisons[1]["difference"]
    assert comparisons[0]["groups"] == 4


@pytest.mark.parametrize(
    ("hyp", "message"),
    [
        (["a"], "1 outputs for 4 references"),
        ([*GOOD, "more"], "5 outputs for 4 references"),
    ],
)
def test_lines_that_do_not_pair(
    tmp_path: Path, hyp: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [lines(tmp_path / "hyp", hyp), lines(tmp_path / "ref", REFERENCES)]
    assert main(["--hyp", files[0], "--ref", files[1]]) == 1
    assert message in capsys.readouterr().err


def test_bad_files_are_one_line(
    tmp_path: Path, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: str) -> str:
        assert main(list(arguments)) == 1
        text = capsys.readouterr().err
        assert len(text.splitlines()) == 1
        return text

    few = outputs(tmp_path / "few.jsonl", GOOD[:2], ["r0", "r1"])
    assert "2 ids are missing: r2, r3" in error("--hyp", few, "--ref", manifest)
    foreign = outputs(tmp_path / "foreign.jsonl", [*GOOD, "x"], ["r0", "r1", "r2", "r3", "q"])
    assert "1 ids are not in" in error("--hyp", foreign, "--ref", manifest)
    twice = outputs(tmp_path / "twice.jsonl", GOOD[:2], ["r0", "r0"])
    assert "id 'r0' stands twice" in error("--hyp", twice, "--ref", manifest)
    broken = lines(tmp_path / "broken.jsonl", ['{"id": "r0"}'])
    assert f"{broken}:1: no decoding output" in error("--hyp", broken, "--ref", manifest)
    assert "No such file" in error("--hyp", str(tmp_path / "none"), "--ref", manifest)
    plain = lines(tmp_path / "plain", REFERENCES)
    assert "--by needs a manifest" in error("--hyp", plain, "--ref", plain, "--by", "doc")
    assert "compares systems" in error("--hyp", plain, "--ref", plain, "--bootstrap", "9")
