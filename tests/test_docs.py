"""What the documentation says of options, keys and files is so."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stk.config.run import RunConfig
from stk.config.strict import build, load_mapping
from stk.models.registry import build_model
from stk.objectives.registry import build_objective

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/RESULTS.md")])
TOOLS = ("train", "decode", "score", "data", "average", "doctor", "report")
COMMAND = re.compile(rf"(?:stk-|-m stk\.cli\.)({'|'.join(TOOLS)})\b([^`#|;]*)")
BASE = {
    "output": "out",
    "model": {"name": "text_transformer", "preset": "small"},
    "vocabularies": {},
    "streams": [
        {"name": "s", "manifests": [], "objective": {"name": "ctc"}, "batch": {"max_examples": 1}}
    ],
    "training": {"max_updates": 1},
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def options(tool: str, words: list[str]) -> set[str]:
    """Every option a tool knows, those of a subcommand among ``words`` included."""
    parser = importlib.import_module(f"stk.cli.{tool}").parser()
    known = {"--debug", *parser._option_string_actions}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            assert words and words[0] in action.choices, f"stk-{tool} has no command {words[:1]}"
            known |= set(action.choices[words[0]]._option_string_actions)
    return known


def commands() -> list[Any]:
    """Every command that a page shows: its tool and its words."""
    found = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            for tool, rest in COMMAND.findall(line):
                shown = " ".join(rest.split())
                found.append(pytest.param(tool, rest.split(), id=f"{named(page)}-{tool} {shown}"))
    return found


@pytest.mark.parametrize(("tool", "words"), commands())
def test_options_exist(tool: str, words: list[str]) -> None:
    wanted = {word for word in words if re.fullmatch(r"--[a-z][a-z-]*", word)}
    if tool != "data" or (words and re.fullmatch(r"[a-z]+", words[0])):
        assert wanted <= options(tool, words)
    else:
        assert not wanted, "a command of stk-data is missing"
    if tool == "train" and words and (ROOT / words[0]).is_file():
        changes = [word for word in words[1:] if "=" in word]
        build(RunConfig, load_mapping(ROOT / words[0], changes))


def test_every_command_is_installed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    """Each entry point prints its options, and the index names it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert set(scripts) == {f"stk-{tool}" for tool in TOOLS if tool != "report"}
    for script, place in scripts.items():
        module, _, function = place.partition(":")
        with pytest.raises(SystemExit) as ended:
            getattr(importlib.import_module(module), function)(["--help"])
        assert ended.value.code == 0 and f"usage: {script}" in capsys.readouterr().out
        assert f"| `{script}` |" in index


def test_commands_are_found() -> None:
    tools = {parameter.values[0] for parameter in commands()}
    assert {"train", "decode", "score", "data", "average"} <= tools


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def settings() -> list[Any]:
    return [
        pytest.param(text, id=f"{named(page)}-{i}")
        for page in PAGES
        for i, text in enumerate(blocks(page, "yaml"))
    ]


@pytest.mark.parametrize("text", settings())
def test_settings_are_valid(text: str) -> None:
    """A whole configuration builds its model and objectives; a part fits into one."""
    data = yaml.safe_load(re.sub(r"(\d)e(-?\d)", r"\1.0e\2", text))
    config = build(RunConfig, BASE | data)
    if "output" in data:
        sizes = dict.fromkeys(config.vocabularies, 50)
        with torch.device("meta"):  # some of them are large
            build_model(config.model, sizes, 80 if config.features else None)
        for stream in config.streams:
            build_objective(stream.objective)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_parses(page: Path) -> None:
    for text in blocks(page, "python"):
        tree = ast.parse(text.replace("{..., ", "{").replace(", ...}", "}"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stk"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)
