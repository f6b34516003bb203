"""The bash library of run.sh scripts: options, stages, markers, failures."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

SCRIPT = f"""#!/usr/bin/env bash
source {RECIPES}/common/recipe.sh
describe "A recipe for the tests."
option size full "how much" full tiny
option seed 1 "where randomness begins" int
option note "" "any text"
option broken no "whether the second stage fails" no yes
parse_options "$@"
work_in exp
make_corpus() {{
    mkdir -p data
    echo "corpus $size" >>calls
    touch "data/$size"
}}
train() {{
    mkdir -p run
    echo "train $1 $(ls run | wc -l)" >>calls
    touch "run/update$seed"
    [[ ! -e poison ]]
    echo "not reached when poisoned" >>run/end
}}
score() {{ echo "score $note" >>calls; }}
stage 1 corpus make_corpus --uses "size" --inputs "words.txt" --clears "data"
stage 2 train train "two words" --uses "seed" --clears "run"
stage 3 score score --uses "note"
stage 3 alone score --uses "note" --after ""
run_stages
"""


class Recipe:
    """A copy of the script in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "run.sh").write_text(SCRIPT)
        (directory / "words.txt").write_text("one")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.directory / "run.sh"), *arguments], capture_output=True, text=True
        )

    def calls(self) -> list[str]:
        """What ran since the last look."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


ALL = ["corpus full", "train two words 0", "score ", "score "]


def test_runs_every_stage_once(recipe: Recipe) -> None:
    first = recipe.run()
    assert first.returncode == 0, first.stderr
    assert recipe.calls() == ALL
    assert "stage 2 train: done in" in first.stdout
    second = recipe.run()
    assert second.returncode == 0
    assert recipe.calls() == []
    assert second.stdout.count("done before") == 4
    log = (recipe.directory / "exp/run.log").read_text()
    assert first.stdout + second.stdout == log


def test_changed_option_redoes_what_depends_on_it(recipe: Recipe) -> None:
    recipe.run()
    recipe.calls()
    recipe.run("--seed", "2")
    assert recipe.calls() == ["train two words 0", "score "]
    recipe.run("--seed=2", "--note", "hello there")
    assert recipe.calls() == ["score hello there", "score hello there"]


def test_changed_input_redoes_what_depends_on_it(recipe: Recipe) -> None:
    recipe.run()
    recipe.calls()
    (recipe.directory / "words.txt").write_text("two")
    recipe.run()
    assert recipe.calls() == ALL[:3]


def test_changed_stage_code_redoes_it(recipe: Recipe) -> None:
    recipe.run()
    recipe.calls()
    script = recipe.directory / "run.sh"
    script.write_text(script.read_text().replace('touch "run/', 'touch "run/new-'))
    recipe.run()
    assert recipe.calls() == ALL[1:3]


def test_failed_stage_goes_on_where_it_stopped(recipe: Recipe) -> None:
    (recipe.directory / "poison").touch()
    failed = recipe.run()
    assert failed.returncode == 1
    assert "stage 2 train: failed with exit code 1" in failed.stdout
    assert recipe.calls() == ALL[:2]
    assert not (recipe.directory / "run/end").exists()  # errexit holds inside a stage
    (recipe.directory / "poison").unlink()
    again = recipe.run()
    assert "stage 2 train: goes on where it was stopped" in again.stdout
    assert recipe.calls() == ["train two words 1", "score ", "score "]


def test_failed_stage_with_new_options_starts_anew(recipe: Recipe) -> None:
    (recipe.directory / "poison").touch()
    recipe.run()
    (recipe.directory / "poison").unlink()
    recipe.calls()
    recipe.run("--seed", "7")
    assert recipe.calls() == ["train two words 0", "score ", "score "]


def test_first_and_last_stage(recipe: Recipe) -> None:
    early = recipe.run("--stage", "2")
    assert early.returncode == 1
    assert early.stderr == (
        "error: stage 1 (corpus) is not done with these options (start with --stage 1)\n"
    )
    assert recipe.run("--stop-stage", "corpus").returncode == 0
    assert recipe.calls() == ALL[:1]
    assert recipe.run("--stage", "train", "--stop-stage", "2").returncode == 0
    assert recipe.calls() == ALL[1:2]
    assert recipe.run("--stage", "2", "--stop-stage", "2", "--force").returncode == 0
    assert recipe.calls() == ["train two words 0"]


def test_list_runs_nothing(recipe: Recipe) -> None:
    recipe.run("--stop-stage", "1")
    recipe.calls()
    listed = recipe.run("--list").stdout.splitlines()
    assert [line.split(maxsplit=2) for line in listed] == [
        ["1", "corpus", "done"],
        ["2", "train", "to do"],
        ["3", "score", "to do"],
        ["3", "alone", "to do"],
    ]
    assert recipe.calls() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sise", "tiny"], "unknown option --sise (known: "),
        (["--size", "huge"], "--size takes one of: full tiny, not 'huge'"),
        (["--size"], "--size needs a value"),
        (["--seed", "-1"], "--seed takes a whole number, not '-1'"),
        (["tiny"], "argument 'tiny' is not an option"),
        (["--stage", "decode"], "--stage: no stage 'decode' (stages: corpus train score alone)"),
    ],
)
def test_wrong_options_are_one_line(recipe: Recipe, arguments: list[str], message: str) -> None:
    done = recipe.run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert recipe.calls() == []


def test_missing_input_is_found_before_work_starts(recipe: Recipe) -> None:
    (recipe.directory / "words.txt").unlink()
    done = recipe.run()
    assert done.returncode == 1
    assert done.stderr.endswith("words.txt: no such file (stage corpus reads it)\n")
    assert recipe.calls() == []


def test_two_at_once_are_refused(recipe: Recipe) -> None:
    import fcntl

    (recipe.directory / "exp").mkdir()
    with (recipe.directory / "exp/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = recipe.run()
    assert done.returncode == 1
    assert "another run.sh is at work here" in done.stderr


def test_help_names_every_option(recipe: Recipe) -> None:
    shown = recipe.run("--help")
    assert shown.returncode == 0
    assert "A recipe for the tests." in shown.stdout
    for name in ("stage", "stop-stage", "force", "list", "size", "seed", "note"):
        assert f"--{name} " in shown.stdout


@pytest.mark.parametrize("path", sorted(RECIPES.glob("**/*.sh")), ids=lambda p: str(p.parent.name))
def test_scripts_parse(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.name != "run.sh" or os.access(path, os.X_OK)


def test_what_was_averaged_before_is_replaced(tmp_path: Path) -> None:
    """A stage killed after it had averaged goes on; stk-average writes to no place taken."""
    script = tmp_path / "run.sh"
    script.write_text(
        f"""source {RECIPES}/common/recipe.sh
stk-average() {{ [[ ! -e $5 ]] || exit 7; mkdir "$5"; echo "$@" >"$5/call"; }}
average_last run 3 averaged
touch averaged/stale
average_last run 3 averaged
"""
    )
    for update in (1, 2):
        (tmp_path / f"run/checkpoints/update-{update}").mkdir(parents=True)
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "averaging 2 checkpoints, not 3" in done.stdout
    assert [path.name for path in (tmp_path / "averaged").iterdir()] == ["call"]
    assert (tmp_path / "averaged/call").read_text() == "run --last 2 --output averaged\n"


def test_measure_counts_children(tmp_path: Path) -> None:
    import json
    import sys

    child = "x = bytearray(80_000_000); import time; time.sleep(0.7)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    script = RECIPES / "common/measure.py"
    out = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, str(script), str(out), sys.executable, "-c", code])
    assert done.returncode == 0
    figures = json.loads(out.read_text())
    assert figures["seconds"] > 0.7
    assert 76 < figures["peak_mb"] < 300
    out.unlink()
    assert subprocess.run([sys.executable, str(script), str(out), "false"]).returncode == 1
    assert not out.exists()
