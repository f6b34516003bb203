"""The recipes' run.sh from end to end, on little data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from debian_archive import Archive, needs_dpkg
from recipe_runs import copy_of_recipes, run

LANGUAGES = ("fr", "es", "ca", "ro", "ru", "bg", "be", "el")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return copy_of_recipes(tmp_path)


@pytest.mark.parametrize("name", ["demo", "tuxpaint"])
def test_lists_its_stages(recipes: Path, name: str) -> None:
    done = run(recipes / name / "run.sh", "--list", programs=recipes / "bin")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [int(line[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert all(line[2:] == ["to", "do"] for line in lines)


def test_tuxpaint_stages_for_three_seeds(recipes: Path) -> None:
    script = recipes / "tuxpaint" / "run.sh"
    done = run(script, "--list", "--seeds", "1 2 3", programs=recipes / "bin")
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(names) == 3 + 3 * 6 + 1
    assert {"asr-2", "st-from-asr-3", "score-1", "table"} <= set(names)
    wrong = run(script, "--seeds", "1,2", programs=recipes / "bin")
    assert wrong.stderr.startswith("error: --seeds takes whole numbers")


@pytest.mark.slow
def test_demo_tiny(recipes: Path) -> None:
    script = recipes / "demo" / "run.sh"
    done = run(script, "--size", "tiny", "--tgt", "es", programs=recipes / "bin")
    assert done.returncode == 0, done.stdout + done.stderr
    work = recipes / "demo" / "exp" / "tiny-es"
    summary = (work / "report" / "summary.txt").read_text()
    assert done.stdout.endswith(summary)
    assert summary.count("translated: ") == 5
    assert "training " in summary and "peak memory " in summary
    page = (work / "report" / "index.html").read_text()
    assert page.count("<img") == 3
    again = run(script, "--size", "tiny", "--tgt", "es", programs=recipes / "bin")
    assert again.returncode == 0 and again.stdout.count("done before") == 7


def stamps(tree: Path) -> None:
    """Forty stamps of noise, whose sentences all differ."""
    folder = tree / "usr" / "share" / "tuxpaint" / "stamps" / "things"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    letters = "abcdefghij"
    for index in range(40):
        word = letters[index % 10] * 2 + letters[index // 10] + letters[(index * 7) % 10]
        lines = [f"A {word}.", *(f"{lang}.utf8=Un {word} {lang}." for lang in LANGUAGES)]
        (folder / f"{word}{index}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for lang in LANGUAGES:
            sound = rng.uniform(-0.5, 0.5, (16000, 2))
            soundfile.write(folder / f"{word}{index}_desc_{lang}.ogg", sound, 16000)


@needs_dpkg
@pytest.mark.slow
def test_tuxpaint_small(recipes: Path, tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    stamps(tmp_path / "tree")
    archive.add("tuxpaint-stamps-default", tmp_path / "tree")
    done = run(
        recipes / "tuxpaint" / "run.sh",
        *("--seed", "5", "--updates", "3", "--minutes", "1", "--averaged", "1", "--beam", "1"),
        *("--src-pieces", "48", "--tgt-pieces", "30", "--samples", "100"),
        programs=archive.programs,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    work = recipes / "tuxpaint" / "exp"
    figures = json.loads((work / "seed5" / "scores" / "st.json").read_text())
    assert {row["group"] for row in figures["scores"]} == {*LANGUAGES, None}
    assert {test["metric"] for test in figures["comparisons"]} == {"chrF2", "BLEU"}
    assert "| all |" in (work / "table.md").read_text()
