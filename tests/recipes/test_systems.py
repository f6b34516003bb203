"""Several systems on one corpus: stages, limits, the table, and demo/systems.sh from end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import compared
import facts
import pytest
import torch
from recipe_runs import ROOT, copy_of_recipes, run
from safetensors.torch import save_file

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.errors import StkError


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return copy_of_recipes(tmp_path)


def stages(recipes: Path, recipe: str, *arguments: str) -> list[tuple[int, str]]:
    done = run(recipes / recipe / "systems.sh", "--list", *arguments, programs=recipes / "bin")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(int(line[0]), line[1]) for line in lines]


def test_a_shared_step_runs_once_a_seed(recipes: Path) -> None:
    found = stages(recipes, "demo", "--systems", "direct-asr cascade kd", "--seeds", "1 2")
    names = [name for _, name in found]
    assert len(set(names)) == len(names)
    for seed in "12":
        steps = ["direct", "asr", "direct-asr", "mt", "kd"]
        assert [n for k, n in found if k == 3 and n.endswith(seed)] == [
            f"{s}-{seed}" for s in steps
        ]
        decoded = ["direct", "direct-asr", "cascade", "kd"]
        wanted = [f"decode-{s}-{seed}" for s in decoded]
        assert [n for k, n in found if k == 4 and n.endswith(seed)] == wanted
    assert found[-1] == (6, "table")


@pytest.mark.parametrize("recipe", ["demo", "tuxpaint"])
def test_every_system_has_stages(recipes: Path, recipe: str) -> None:
    systems = {path.name for path in (ROOT / "recipes" / recipe / "conf" / "systems").iterdir()}
    found = [name for _, name in stages(recipes, recipe, "--systems", "all")]
    assert {f"decode-{system}-1" for system in systems} <= set(found)


def test_wrong_systems_are_one_line(recipes: Path) -> None:
    script, programs = recipes / "demo" / "systems.sh", recipes / "bin"
    wrong = run(script, "--list", "--systems", "costs", programs=programs)
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert re.search(r"no system 'costs' \(there are .*\bcostt\b.*\)$", wrong.stderr)
    (recipes / "demo" / "conf" / "systems" / "kd" / "last.yaml").write_text("")
    wrong = run(script, "--list", "--systems", "kd", programs=programs)
    assert wrong.stderr.endswith("conf/systems/kd/last.yaml: names are ORDER-NAME.yaml or .sh\n")


def test_a_step_follows_those_that_its_files_name(recipes: Path) -> None:
    """A change of the acoustic stage redoes COSTT, not what has nothing to do with it."""
    work = recipes / "demo" / "exp" / "systems-tiny-de"
    options = ["--systems", "mt costt", "--size", "tiny"]
    stages(recipes, "demo", *options)
    before = hashes(recipes, options)
    conf = recipes / "demo" / "conf" / "systems" / "costt" / "2-costt-acoustic.yaml"
    conf.write_text(conf.read_text() + "\nseed: 7\n")
    after = hashes(recipes, options)
    changed = {name for name in before if before[name] != after[name]}
    own = {"costt-acoustic-1", "costt-1", "decode-costt-1", "score-1", "table"}
    assert changed == own and work.is_dir()


def hashes(recipes: Path, options: list[str]) -> dict[str, str]:
    """What each stage's marker would hold."""
    script = recipes / "demo" / "systems.sh"
    text = script.read_text().replace("run_stages", "hash_stages\ndeclare -p STAGE_HASH")
    shown = script.with_name("hashes.sh")
    shown.write_text(text)
    done = run(shown, *options, programs=recipes / "bin")
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"\[([^]]+)\]=\"(\w+)\"", done.stdout))


def test_a_given_step_is_not_trained(recipes: Path, tmp_path: Path) -> None:
    """Every seed's systems start from it; by default each seed trains its own."""
    options = ["--systems", "xstnet chimera", "--size", "tiny"]
    before = hashes(recipes, options)
    script, programs = recipes / "demo" / "systems.sh", recipes / "bin"
    given = tmp_path / "wav2vec2"
    given.mkdir()
    save_file({"a": torch.zeros(1)}, given / "model.safetensors")
    for wrong, words in (
        (f"wav2vec2={tmp_path / 'none'}", "not STEP=DIRECTORY of a checkpoint"),
        (str(given), "not STEP=DIRECTORY of a checkpoint"),
        (f"wav2vec={given}", "no step 'wav2vec' \\(there are .*wav2vec2"),
    ):
        done = run(script, "--list", *options, "--given", wrong, programs=programs)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert re.search(words, done.stderr)
    options += ["--given", f"wav2vec2={given}"]
    after = hashes(recipes, options)
    changed = {name for name in before if before[name] != after[name]}
    waiting = {"wav2vec2-1", "xstnet-1", "chimera-1", "decode-xstnet-1", "decode-chimera-1"}
    assert changed == waiting | {"score-1", "table"}
    save_file({"a": torch.ones(1)}, given / "model.safetensors")
    assert hashes(recipes, options)["xstnet-1"] != after["xstnet-1"]


def test_limits_shorten_schedule_and_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZE", "full")
    path = ROOT / "recipes/demo/conf/systems/direct/1-direct.yaml"
    config = build(RunConfig, load_mapping(path), file=path)
    assert facts.limits(config, 0, 0, 5) == ["checkpoint.keep_last=5"]
    overrides = facts.limits(config, 100, 3, 5)
    short = build(RunConfig, load_mapping(path, overrides), file=path)
    assert (short.training.max_updates, short.training.max_minutes) == (100, 3.0)
    assert (short.schedule.total, short.schedule.warmup) == (100, 25)
    assert (short.checkpoint.every, short.checkpoint.keep_last) == (20, 5)
    assert short.validation.every == 100
    for updates in (1, 2, 3):
        overrides = facts.limits(config, updates, 0, 5)
        assert build(RunConfig, load_mapping(path, overrides)).checkpoint.every == 1


def scored(system: str, chrf: float, bleu: float) -> list[dict[str, Any]]:
    return [
        {"system": f"x/{system}/test.jsonl", "group": None, "name": n, "value": v, "signature": "s"}
        for n, v in (("chrF2", chrf), ("BLEU", bleu))
    ]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """What two seeds of a baseline, a cascade and a recogniser leave behind."""
    for seed in (1, 2):
        folder = tmp_path / f"seed{seed}"
        for part in ("asr", "mt", "direct"):
            (folder / "averaged" / part).mkdir(parents=True)
            tensors = {"a": torch.zeros(1000, 500), "b": torch.zeros(500, 1000)}
            save_file(tensors, folder / "averaged" / part / "model.safetensors")
            put(folder / "measured" / f"{part}.json", {"seconds": 60.0 * seed, "cpu_seconds": 90.0})
        at = str(folder / "averaged")
        cascade = ["stk-decode", "--checkpoint", f"{at}/asr", "--then", f"{at}/mt", "--beam", "5"]
        for system, command in (
            ("direct", ["stk-decode", "--checkpoint", f"{at}/direct"]),
            ("asr", ["stk-decode", "--checkpoint", f"{at}/asr"]),
            ("cascade", cascade),
        ):
            put(folder / "measured" / f"decode-{system}-test.json", {"command": command})
            put(folder / "decoded" / system / "test.json", {"real_time_factor": 0.02})
        test = {"system_name": "x/cascade/test.jsonl", "metric": "BLEU", "p_value": 0.01}
        test |= {"difference": 4.0 + seed, "low": 1.0, "high": 9.0}
        rows = [*scored("direct", 40.0, 20.0), *scored("cascade", 50.0, 24.0 + seed)]
        found = {"scores": rows, "comparisons": [test]}
        put(folder / "scores" / "test" / "translation.json", found)
        for system in ("cascade", "asr"):
            row = {"name": "WER", "value": 30.0, "group": None}
            put(folder / "scores" / "test" / f"wer-{system}.json", {"scores": [row]})
    return tmp_path


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


ARGUMENTS = ["--seeds", "1", "2", "--sets", "test", "--systems"]
SYSTEMS = ["direct=direct ", "asr=asr ", "cascade=asr mt "]


def test_the_table(work: Path) -> None:
    compared.main(["--work", str(work), *ARGUMENTS, *SYSTEMS, "--out", str(work / "table.md")])
    lines = (work / "table.md").read_text().splitlines()
    times = "1.5 ± 0.7 | 1.5 ± 0.0 | 0.0200 ± 0.0000 |"
    assert f"| direct | 40.0 ± 0.0 | 20.0 ± 0.0 | - | 1.00 | {times}" in lines
    assert f"| asr | - | - | 30.0 ± 0.0 | 1.00 | {times}" in lines
    times = "3.0 ± 1.4 | 3.0 ± 0.0 | 0.0200 ± 0.0000 |"
    cascade = f"| 50.0 ± 0.0 | 25.5 ± 0.7 | 30.0 ± 0.0 | 2.00 | {times}"
    assert f"| cascade {cascade}" in lines
    one, two = ("(+5.0; +1.0 to +9.0; p 0.010)", "(+6.0; +1.0 to +9.0; p 0.010)")
    assert f"| cascade | BLEU | 25.0 {one} | 26.0 {two} |" in lines
    assert not [line for line in lines if line.startswith("| asr | BLEU")]


def test_the_table_names_trainings_that_ended_early(work: Path) -> None:
    out = work / "table.md"
    arguments = ["--work", str(work), *ARGUMENTS, *SYSTEMS, "--out", str(out)]
    for seed, reached in ((1, 40), (2, 25)):
        folder = work / f"seed{seed}" / "mt"
        put(folder / "config.yaml", {"training": {"max_updates": 40}})
        put(folder / "metrics.jsonl", {"update": reached})
    compared.main(arguments)
    assert "by time or patience: mt of seed 2 (25 of 40)." in out.read_text()
    put(work / "seed2" / "mt" / "metrics.jsonl", {"update": 40})
    compared.main(arguments)
    assert "Every training came to its last update." in out.read_text()


def test_what_was_given_has_no_minutes(work: Path) -> None:
    out = work / "table.md"
    (work / "seed1" / "measured" / "mt.json").unlink()
    arguments = ["--work", str(work), *ARGUMENTS, *SYSTEMS, "--out", str(out)]
    compared.main([*arguments, "--given", "mt"])
    (row,) = [line for line in out.read_text().splitlines() if line.startswith("| cascade | 50")]
    assert row.split(" | ")[5:7] == ["1.5 ± 0.7", "1.5 ± 0.0"]
    assert "included, but without those made before for all seeds: mt." in out.read_text()


def test_a_missing_stage_is_named(work: Path) -> None:
    (work / "seed2" / "measured" / "mt.json").unlink()
    with pytest.raises(StkError, match=r"mt.json: no such file"):
        compared.main(["--work", str(work), *ARGUMENTS, *SYSTEMS, "--out", str(work / "t.md")])


@pytest.mark.slow
def test_demo_systems_tiny(recipes: Path) -> None:
    script = recipes / "demo" / "systems.sh"
    systems = "direct asr mt direct-asr-mt cascade kd kd-cached kd-sequence costt costt-whole lut"
    arguments = ["--systems", systems, "--updates", "4", "--averaged", "1", "--samples", "20"]
    arguments += ["--beam", "1"]
    done = run(script, *arguments, programs=recipes / "bin")
    assert done.returncode == 0, done.stdout + done.stderr
    table = (recipes / "demo" / "exp" / "systems-tiny-de" / "table.md").read_text()
    heard = {"asr", "cascade", "costt", "costt-whole"}
    for system in systems.split():
        (row,) = re.findall(
            rf"^\| {system} \|(?: [^|]*\|){{2}} ([^|]*) \|(?: [^|]*\|){{4}}$", table, re.M
        )
        assert (row != "-") == (system in heard)
    again = run(script, *arguments, programs=recipes / "bin")
    assert again.returncode == 0 and "begins" not in again.stdout
