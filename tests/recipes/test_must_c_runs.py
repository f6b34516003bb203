"""The MuST-C recipe's run.sh from end to end on the small corpus: systems, options, kills."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import corpora
import pytest
import torch
from recipe_runs import ROOT, copy_of_recipes, run, stand_ins

from stk.config.strict import build
from stk.data.example import Example
from stk.data.manifest import read_manifest, write_manifest

RECIPE = ROOT / "recipes" / "must_c"
QUICK = ("--size", "tiny", "--updates", "2", "--averaged", "1", "--beam", "1")


def test_two_systems_on_the_small_corpus(tmp_path: Path, warm: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c d")
    script = recipes / "must_c" / "run.sh"
    given = ("--data", str(tmp_path / "c d"), *QUICK)
    done = run(script, *given, "--system", "st-asr", programs=recipes / "bin", warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "global batch: 8000 frames = 4000 x 1 processes x 2 micro-steps" in done.stderr
    assert "warning: en-de, train: 24 rows, published 229703 (ESPnet" in done.stderr
    work = recipes / "must_c" / "exp" / "de-tiny"
    shown = (work / "table-st-asr.md").read_text()
    assert "| st-asr | tst-COMMON | de | BLEU |" in shown and "22.7 (s, Wang" in shown
    assert "| asr | tst-HE | en | WER |" in shown and "tok:13a" in shown
    assert (work / "data" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((work / "data" / "statistics.json").read_text())["warnings"]
    again = run(script, *given, "--system", "cascade", programs=recipes / "bin", warm=warm)
    assert again.returncode == 0, again.stdout + again.stderr
    assert begun(again.stdout) == [
        *("mt", "decode-mt", "score-mt", "decode-cascade", "score-cascade", "table-cascade")
    ]
    shown = (work / "table-cascade.md").read_text()
    assert "| cascade | tst-COMMON | de | BLEU |" in shown and "23.4 (NeurST, 256, Zhao" in shown
    assert "| cascade | tst-COMMON | en | WER |" in shown


def begun(output: str) -> list[str]:
    """Names of the stages that a run.sh began."""
    return re.findall(r"stage \d+ (\S+): begins", output)


def test_changed_options_redo_what_depends_on_them(tmp_path: Path, warm: Path) -> None:
    """Data and vocabularies alone are made; what else would be done is listed."""
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c", ("de", "fr"), faults=False)
    script = recipes / "must_c" / "run.sh"

    def stages(*options: str) -> dict[str, str]:
        places = ("--data", str(tmp_path / "c"), *QUICK, "--system", "chimera", *options)
        done = run(script, *places, programs=recipes / "bin", warm=warm)
        assert done.returncode == 0, done.stdout + done.stderr
        rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        return {row[1]: row[2] for row in rows if len(row) == 3}

    stages("--stop-stage", "vocab")
    listed = stages("--list")
    assert list(listed) == [
        *("check", "statistics", "vocab", "vocab-joint", "wav2vec2", "chimera-mt"),
        *("decode-chimera-mt", "score-chimera-mt", "chimera", "decode-chimera", "score-chimera"),
        "table-chimera",
    ]
    made = {"check", "statistics", "vocab", "vocab-joint"}
    assert {name for name, state in listed.items() if state == "done"} == made
    for change, redone in (
        (("--seed", "2"), set()),
        (("--joint-pieces", "101"), {"vocab-joint"}),
        (("--pieces", "73"), {"vocab"}),
    ):
        found = {name for name, state in stages("--list", *change).items() if state == "done"}
        assert found == made - redone
    text = tmp_path / "c/en-de/data/dev/txt/dev.de"
    text.write_text(text.read_text().replace("e", "E"))
    assert set(stages("--list").values()) == {"to do"}


SYSTEMS = sorted(path.name for path in (RECIPE / "conf").iterdir())


@pytest.mark.slow
def test_every_system(tmp_path: Path, warm: Path) -> None:
    """One after the other in one working directory, as somebody who compares them would."""
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c")
    work = recipes / "must_c" / "exp" / "de-tiny"
    trained: list[str] = []
    for system in SYSTEMS:
        given = ("--data", str(tmp_path / "c"), *QUICK, "--system", system)
        done = run(recipes / "must_c/run.sh", *given, programs=recipes / "bin", warm=warm)
        assert done.returncode == 0, system + done.stdout + done.stderr
        trained += begun(done.stdout)
        table = (work / f"table-{system}.md").read_text()
        field = "WER" if system == "asr" else "BLEU"
        assert re.search(rf"^\| {system} \| tst-COMMON \| \w\w \| {field} \|", table, re.M), table
    assert len(trained) == len(set(trained))  # what systems share is made once


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--system", "mt", "--vocab", "joint"),
        ("--system", "st", "--lang", "de,fr"),
        ("--system", "kd", "--lang", "de,fr"),
        ("--system", "xstnet", "--lang", "de,fr"),
        ("--system", "self-training", "--lang", "de,fr"),
        ("--system", "costt", "--ctc-units", "char", "--vocab-type", "char"),
    ],
    ids=" ".join,
)
def test_other_options(options: tuple[str, ...], tmp_path: Path, warm: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c", ("de", "fr"))
    given = ("--data", str(tmp_path / "c"), *QUICK, *options)
    done = run(recipes / "must_c/run.sh", *given, programs=recipes / "bin", warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    if "de,fr" in options:
        (table,) = (recipes / "must_c" / "exp" / "de-fr-tiny").glob("table-*.md")
        assert "| tst-COMMON | de | BLEU |" in table.read_text()
        assert "| tst-COMMON | fr | BLEU |" in table.read_text()


@pytest.mark.slow
def test_other_sound_is_labelled(tmp_path: Path, warm: Path) -> None:
    """Clips that the corpus does not have come into the student's labels; no others do."""
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c", faults=False)
    clips = sorted((tmp_path / "c" / "spoken" / "dev").glob("*.wav"))
    rows = [Example(id=clip.stem, audio=clip) for clip in clips]
    write_manifest(tmp_path / "more sound.jsonl", rows)
    given = ("--data", str(tmp_path / "c"), *QUICK, "--system", "self-training")
    given = (*given, "--unlabelled", str(tmp_path / "more sound.jsonl"))
    done = run(recipes / "must_c/run.sh", *given, programs=recipes / "bin", warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    labelled = read_manifest(recipes / "must_c/exp/de-tiny/made/pseudo/train.jsonl")
    assert labelled and {row.audio for row in labelled} <= set(clips)
    assert all(row.tgt_text and row.tgt_lang == "de" and row.duration for row in labelled)


@pytest.mark.slow
def test_a_released_wave_encoder(tmp_path: Path, warm: Path) -> None:
    from stk.interop.wav2vec2 import write_huggingface
    from stk.models.wav2vec2 import Wav2Vec2, Wav2Vec2Config
    from stk.training.tensors import read_weights

    released = Wav2Vec2(build(Wav2Vec2Config, dict(Wav2Vec2.PRESETS["tiny"])))
    write_huggingface(released, tmp_path / "released")
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c")
    given = ("--data", str(tmp_path / "c"), *QUICK, "--system", "wav2vec2-st")
    given = (*given, "--wav2vec2", str(tmp_path / "released"))
    done = run(recipes / "must_c/run.sh", *given, programs=recipes / "bin", warm=warm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "averaged/wav2vec2: wav2vec2" in done.stdout
    taken = read_weights(recipes / "must_c/exp/de-tiny/averaged/wav2vec2/model.safetensors")
    for name, tensor in released.encoder.state_dict().items():
        torch.testing.assert_close(taken[f"encoder.{name}"], tensor, rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c")
    given = ("--data", str(tmp_path / "c"), *QUICK, "--system", "st", "--nproc", "2")
    done = run(recipes / "must_c/run.sh", *given, programs=recipes / "bin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8000 frames = 4000 x 2 processes x 1 micro-steps" in done.stderr
    assert "2 process(es)" in done.stdout + done.stderr


@pytest.mark.slow
def test_killed_in_training_goes_on(tmp_path: Path) -> None:
    """The whole process group is killed after a checkpoint; nothing that was done is done again."""
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c")
    script, programs = recipes / "must_c" / "run.sh", recipes / "bin"
    given = ["--data", str(tmp_path / "c"), *QUICK, "--system", "asr", "--updates", "40"]
    checkpoints = recipes / "must_c/exp/de-tiny/asr/checkpoints"
    killed = subprocess.Popen(
        ["bash", str(script), *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=stand_ins(programs),
        start_new_session=True,
    )
    assert killed.stdout is not None
    seen = []
    for line in killed.stdout:
        seen.append(line)
        if any(checkpoints.glob("update-*")):
            os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert killed.returncode == -signal.SIGKILL, "".join(seen)
    reached = max(int(path.name.split("-")[1]) for path in checkpoints.glob("update-*"))
    assert reached < 40
    again = run(script, *given, programs=programs)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("done before") == 3
    assert "stage 2 asr: goes on where it was stopped" in again.stdout
    assert begun(again.stdout) == ["decode-asr", "score-asr", "table-asr"]
    lines = (recipes / "must_c/exp/de-tiny/asr/metrics.jsonl").read_text().splitlines()
    steps = [row["update"] for row in map(json.loads, lines) if row["kind"] == "train"]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    beams = run(script, *given, "--beam", "2", programs=programs)
    assert begun(beams.stdout) == ["decode-asr", "score-asr", "table-asr"]


@pytest.mark.slow
def test_two_nodes_meet(tmp_path: Path) -> None:
    """A launcher starts torchrun on each node, as srun does; here both nodes are this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = tmp_path / "both"
    both.write_text('#!/bin/bash\n"$@" >/dev/null & first=$!\n"$@" && wait $first\n')
    both.chmod(0o755)
    recipes = copy_of_recipes(tmp_path)
    corpora.write_must_c(tmp_path / "c")
    torchrun = (
        f"{both} python -m torch.distributed.run --nnodes 2 --nproc-per-node 1 "
        f"--rdzv-id 7 --rdzv-backend c10d --rdzv-endpoint localhost:{port}"
    )
    given = ("--data", str(tmp_path / "c"), *QUICK, "--system", "st", "--stop-stage", "st")
    script = recipes / "must_c" / "run.sh"
    done = run(script, *given, "--nproc", "2", "--launcher", torchrun, programs=recipes / "bin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4000 x 2 processes x 1 micro-steps" in done.stderr
    assert "2 process(es)" in done.stdout + done.stderr
