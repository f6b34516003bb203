"""The labelling step of self-training: whose sound, in shares, once a target language."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import unlabelled
from recipe_runs import ROOT

from stk.data.example import Example
from stk.data.manifest import Manifest, read_manifest, write_manifest
from stk.errors import StkError

STEP = ROOT / "recipes" / "common" / "conf" / "steps" / "pseudo.sh"


def test_every_clip_once_a_language(tmp_path: Path) -> None:
    row = Example(id="a", audio=tmp_path / "a.flac", start=1.5, duration=2.0, src_text="one")
    write_manifest(tmp_path / "in.jsonl", [row])
    out = tmp_path / "deeper" / "out.jsonl"
    unlabelled.main([str(tmp_path / "in.jsonl"), "--tgt-langs", "de", "fr", "--out", str(out)])
    found = read_manifest(out)
    assert [(r.id, r.tgt_lang) for r in found] == [("de/a", "de"), ("fr/a", "fr")]
    assert {(r.audio, r.start, r.duration, r.src_text) for r in found} == {
        (tmp_path / "a.flac", 1.5, 2.0, None)
    }
    (alone,) = unlabelled.clips(Manifest(tmp_path / "in.jsonl"), ["de"])
    assert alone.id == "a"


def test_text_is_no_sound(tmp_path: Path) -> None:
    write_manifest(tmp_path / "in.jsonl", [Example(id="a", src_text="one")])
    with pytest.raises(StkError, match=r"in.jsonl:1: no sound to label"):
        list(unlabelled.clips(Manifest(tmp_path / "in.jsonl"), ["de"]))


def label(
    tmp_path: Path, *, processes: int, gpus: int = 0, broken: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the step with programs that write down what they were told and one row for it."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    decode = (
        f'echo "$*" >>"{tmp_path}/told"\n'
        "while [[ $1 != --pseudo-labels ]]; do [[ $1 != --shard ]] || shard=$2; shift; done\n"
        f'[[ $shard != "{broken}" ]] || exit 3\n'
        'mkdir -p "$OUT" && echo "$shard" >"$2"\n'
    )
    for name, body in (("stk-decode", decode), ("python", f"[[ $1 != -c ]] || echo {gpus}\n")):
        (programs / name).write_text(f"#!/bin/bash\n{body}")
        (programs / name).chmod(0o755)
    told = {"OUT": str(tmp_path / "made"), "RUN": "run", "UNLABELLED": "sound.jsonl"}
    told |= {"TGT_TAGS": "de", "PROCESSES": str(processes)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", str(STEP)],
        capture_output=True,
        text=True,
        env={**os.environ, **told, "PATH": f"{programs}:{os.environ['PATH']}"},
    )


@pytest.mark.parametrize(("gpus", "shares"), [(0, 3), (2, 2), (8, 3)])
def test_shares_of_labelling(tmp_path: Path, gpus: int, shares: int) -> None:
    done = label(tmp_path, processes=3, gpus=gpus)
    assert done.returncode == 0, done.stderr
    told = sorted((tmp_path / "told").read_text().splitlines())
    for number, line in enumerate(sorted(told, key=lambda line: line.split("--shard ")[1]), 1):
        device = f"cuda:{number - 1}" if gpus else "cpu"
        assert f"--device {device} --shard {number}/{shares} " in line and "--beam 4" in line
    whole = (tmp_path / "made" / "train.jsonl").read_text().splitlines()
    assert whole == [f"{number}/{shares}" for number in range(1, shares + 1)]


def test_a_share_that_fails_fails_the_step_and_is_labelled_again(tmp_path: Path) -> None:
    assert label(tmp_path, processes=2, broken="2/2").returncode != 0
    assert not (tmp_path / "made" / "train.jsonl").exists()
    assert (tmp_path / "made" / "1-of-2.jsonl").exists()
    (tmp_path / "told").unlink()
    assert label(tmp_path, processes=2).returncode == 0
    (line,) = (tmp_path / "told").read_text().splitlines()
    assert "--shard 2/2" in line
