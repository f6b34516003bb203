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
PARTS = sorted(RECIPES.glob("common/conf/size/*.yaml"))
"""What runs are built on; no runs by themselves."""
FILES = sorted(set(RECIPES.glob("*/conf/**/*.yaml")) - set(PARTS))
SYSTEMS = sorted(path for name in ("must_c", "covost2") for path in RECIPES.glob(f"{name}/conf/*"))


@pytest.mark.parametrize("size", ["tiny", "s", "m"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(RECIPES)))
def test_builds(path: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if size != "s" and "SIZE" not in chain_of(path):
        return  # no sizes: built once
    monkeypatch.setenv("SIZE", size)
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.setenv("RUN", "elsewhere/seed3")
    config = build(RunConfig, load_mapping(path), file=path)
    assert config.output.startswith("elsewhere/")
    for stream in (*config.streams, *config.validation.streams):
        build_objective(stream.objective)
        for manifest in stream.manifests:
            assert manifest.startswith("elsewhere/data/")
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
    found = re.search(r"^base: *(.+)$", text, re.M)
    if found is None or "SIZE" in found[1]:
        return text
    return text + chain_of((path.parent / found[1]).resolve())


def test_sizes_are_whole_and_used() -> None:
    """Every kind of model has all three sizes, and a run is built on it."""
    kinds = {path.stem.rsplit("-", 1)[0] for path in PARTS}
    assert {path.stem for path in PARTS} == {f"{k}-{s}" for k in kinds for s in ("tiny", "s", "m")}
    used = "".join(path.read_text() for path in FILES)
    assert kinds >= {"speech", "text"}
    assert all(f"size/{kind}-${{oc.env:SIZE,s}}.yaml" in used for kind in kinds)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda p: f"{p.parts[-3]}-{p.name}")
def test_a_run_is_the_same_in_every_system(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run.sh trains a run once and takes it from the system of that name."""
    monkeypatch.setenv("WORK", "elsewhere")
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
