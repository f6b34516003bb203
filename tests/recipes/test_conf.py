"""Every YAML file that a recipe ships is a valid run whose model and objectives build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("size", ["tiny", "s", "m", "full"])
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
    model = build_model(
        config.model, sizes, widths[config.features.kind] if config.features else None
    )
    assert 1e4 < sum(parameter.numel() for parameter in model.parameters()) < 1e8
    for start in config.init_from:
        for mine in start.components:
            assert any(name.startswith(f"{mine}.") for name, _ in model.named_parameters())


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
    """run.sh trains a run once and takes it from the system of that name."""
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.delenv("RUN", raising=False)
    files = sorted(system.glob("*.yaml"))
    assert [path.name.split("-")[0] for path in files] == [str(n + 1) for n in range(len(files))]
    assert files[-1].stem.split("-", 1)[1] == system.name
    for path in files:
        name = path.stem.split("-", 1)[1]
        config = load_mapping(path)
        assert config["output"] == f"elsewhere/{name}"
        own = system.parent / name / path.name
        if own.is_file():
            assert load_mapping(own) == config


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
