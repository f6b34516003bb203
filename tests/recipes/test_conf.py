"""Every YAML file that a recipe ships is a valid run whose model and objectives build."""

from __future__ import annotations

from pathlib import Path

import pytest

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.models.registry import build_model
from stk.objectives.registry import build_objective

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
FILES = sorted(RECIPES.glob("*/conf/*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_builds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORK", "elsewhere")
    monkeypatch.setenv("RUN", "elsewhere/seed3")
    config = build(RunConfig, load_mapping(path), file=path)
    assert config.output.startswith("elsewhere/")
    for stream in (*config.streams, *config.validation.streams):
        build_objective(stream.objective)
        for manifest in stream.manifests:
            assert manifest.startswith("elsewhere/data/")
    sizes = dict.fromkeys(config.vocabularies, 300)
    model = build_model(config.model, sizes, 80 if config.features else None)
    assert 1e4 < sum(parameter.numel() for parameter in model.parameters()) < 1e8
    for start in config.init_from:
        for mine in start.components:
            assert any(name.startswith(f"{mine}.") for name, _ in model.named_parameters())


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
    assert found == set(FILES) and len(FILES) >= 5
