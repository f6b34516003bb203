"""Every YAML file that a recipe ships is a valid run whose model and objectives build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.models.registry import build_model
from stk.objectives.registry import build_objective

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZES = sorted(RECIPES.glob("*/conf/size/*.yaml"))
PARTS = [*SIZES, *sorted(RECIPES.glob("common/conf/tasks/*.yaml"))]
"""What runs are built on; no runs by themselves."""
FILES = sorted(set(RECIPES.glob("*/conf/**/*.yaml")) - set(PARTS))
SYSTEMS = sorted(path for name in ("must_c", "covost2") for path in RECIPES.glob(f"{name}/conf/*"))
COMPARED = sorted(RECIPES.glob("*/conf/systems/*"))
"""Systems that are trained side by side, with several seeds."""


@pytest.mark.parametrize("size", ["tiny", "xs", "s", "m", "full"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(RECIPES)))
def test_builds(path: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = chain_of(path)
    if (size not in sizes_of(path)) if "SIZE" in text else (size != "s"):
        return  # without sizes it is built once
    monkeypatch.setenv("SIZE", size)
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.setenv("RUN", "elsewhere/seed3")
    config = build(RunConfig, load_mapping(path), file=path)
    assert config.output.startswith("elsewhere/")
    for stream in (*config.streams, *config.validation.streams):
        build_objective(stream.objective)
        for manifest in stream.manifests:
            assert manifest.startswith(("elsewhere/data/", "elsewhere/seed3/made/"))
    sizes = dict.fromkeys(config.vocabularies, 300)
    widths = {"fbank": 80, "waveform": 1}
    with torch.device("meta"):  # shapes alone: some models are big
        model = build_model(
            config.model, sizes, widths[config.features.kind] if config.features else None
        )
    # Published decay is decoupled; an L2 term under Adam shrinks what has small gradients.
    assert config.optim.name == "adamw" or not config.optim.weight_decay
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 1e4 < count < (1e9 if size == "m" else 1e7 if size == "tiny" else 4e8)
    for start in config.init_from:
        for mine in start.components:
            assert any(name.startswith(f"{mine}.") for name, _ in model.named_parameters())


def step_of(path: Path) -> str:
    """The name of a step: of ``2-st-asr.yaml`` it is ``st-asr``."""
    return path.stem.split("-", 1)[1]


def chain_of(path: Path) -> str:
    """The text of a file and of those that it is built on."""
    text = path.read_text()
    found = re.findall(r"^(?:base:|  -) +(\S+\.yaml)$", text, re.M)
    return text + "".join(chain_of((path.parent / n).resolve()) for n in found if "$" not in n)


def sizes_of(path: Path) -> set[str]:
    """The sizes that a file's recipe has."""
    recipe = RECIPES / path.relative_to(RECIPES).parts[0]
    found = {p.stem.rsplit("-", 1)[1] for p in recipe.glob("conf/size/*.yaml")}
    return found or {"tiny", "s", "m"}


def test_sizes_are_whole_and_used() -> None:
    """Every kind of model has all sizes of its recipe, and a run is built on it."""
    used = "".join(path.read_text() for path in FILES)
    for recipe, sizes in (("common", "tiny s m"), ("demo", "tiny full"), ("tuxpaint", "tiny full")):
        parts = [path for path in SIZES if path.parts[-4] == recipe]
        kinds = {path.stem.rsplit("-", 1)[0] for path in parts}
        assert {p.stem for p in parts} == {f"{k}-{s}" for k in kinds for s in sizes.split()}
        assert kinds >= {"speech", "text"}
        default = "s" if recipe == "common" else "tiny"
        assert all(f"size/{kind}-${{oc.env:SIZE,{default}}}.yaml" in used for kind in kinds)


@pytest.mark.parametrize("system", COMPARED, ids=lambda p: f"{p.parts[-4]}-{p.name}")
def test_a_step_is_the_same_in_every_compared_system(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs once a seed, taken from the system of its name where there is one."""
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.setenv("RUN", "elsewhere/seed3")
    files = sorted(path for path in system.iterdir() if path.name != "decode.args")
    assert [path.name.split("-")[0] for path in files] == [str(n + 1) for n in range(len(files))]
    decoded = system / "decode.args"
    assert files[-1].stem.split("-", 1)[1] == system.name or "$RUN/averaged/" in decoded.read_text()
    for path in files:
        name = path.stem.split("-", 1)[1]
        same = (p for p in system.parent.glob("*/?-*.*") if p != path)
        others = [p for p in same if p.stem.split("-", 1)[1] == name]
        assert all(other.suffix == path.suffix for other in others)
        if path.suffix == ".sh":
            assert all(other.read_text() == path.read_text() for other in others)
            assert "$OUT" in path.read_text()
            continue
        config = load_mapping(path)
        assert config["output"] == f"elsewhere/seed3/{name}"
        assert all(load_mapping(other) == config for other in others)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda p: f"{p.parts[-3]}-{p.name}")
def test_a_run_is_the_same_in_every_system(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run.sh trains a run once; a file of one line is another system's."""
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.delenv("RUN", raising=False)
    files = sorted(path for path in system.iterdir() if path.name != "decode.args")
    assert [path.name.split("-")[0] for path in files] == [str(n + 1) for n in range(len(files))]
    names = [step_of(path) for path in files]
    decoded = system / "decode.args"
    assert names[-1] == system.name or f" $RUN/averaged/{names[-1]}" in decoded.read_text()
    for path, name in zip(files, names, strict=True):
        others = [p for p in system.parent.glob("*/*-*") if step_of(p) == name and p != path]
        if path.suffix == ".sh":
            assert all(other.read_text() == path.read_text() for other in others)
            continue
        config = load_mapping(path)
        assert config["output"] == f"elsewhere/{name}"
        assert all(load_mapping(other) == config for other in others)
        alone = [p for p in (path, *others) if not re.fullmatch(r"base: \S+\n", p.read_text())]
        assert len(alone) == 1, "one file has the run, the others are one line each"


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda p: f"{p.parts[-3]}-{p.name}")
def test_steps_name_only_steps_before_them(system: Path) -> None:
    """What a step needs is made before it, in the same system."""
    made: set[str] = set()
    for path in sorted(system.glob("*-*")):
        text = chain_of(path)
        for script in re.findall(r"^source \.\./(\S+)$", text, re.M):
            text += (RECIPES / script).read_text()
        assert set(re.findall(r"(?:averaged|made)/([\w-]+)", text)) <= made, path
        made.add(step_of(path))


def test_global_batches_stand_in_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe's own file says of its batch is what it comes to."""
    monkeypatch.setenv("SIZE", "m")
    for path in (p for system in SYSTEMS for p in system.glob("*.yaml")):
        said = re.search(r"Global batch:\s+(?:# )?(\d+) x ([\d,]+)", path.read_text())
        if said is None:
            assert re.fullmatch(r"base: \S+\n", path.read_text()), path
            continue
        config = build(RunConfig, load_mapping(path), file=path)
        bound = config.streams[0].batch.max_frames or config.streams[0].batch.max_tokens
        stated = (config.training.accumulate, bound)
        assert stated == (int(said[1]), int(said[2].replace(",", ""))), path


def test_defaults_hold_without_run_sh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORK", raising=False)
    config = build(RunConfig, load_mapping(RECIPES / "demo/conf/full.yaml"))
    assert config.output == "exp/full-de/st"


def test_no_yaml_file_is_forgotten() -> None:
    """A run's configuration that lies elsewhere would be built by no test."""
    root = RECIPES.parent
    found = {
        path
        for suffix in ("yaml", "yml")
        for path in root.rglob(f"*.{suffix}")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not {"exp", "build"} & set(path.relative_to(root).parts)
    }
    assert found == {*FILES, *PARTS} and len(FILES) >= 5
