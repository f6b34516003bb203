"""The rules of the house that a parser can hold: which package may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stk"

# What each package may import of stk, itself excepted. `errors` is free for all.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "ops": set(),
    "features": {"ops", "config", "data"},
    "data": {"ops", "config", "features", "objectives"},
    "modules": {"ops", "config"},
    "models": {"ops", "config", "modules", "features", "data"},
    "objectives": {"ops", "config", "modules", "models", "data", "features"},
    "training": {"ops", "config", "modules", "models", "data", "features", "objectives"},
    "interop": {
        "ops", "config", "modules", "models", "data", "features", "objectives", "training",
    },
    "decoding": {
        "ops", "config", "modules", "models", "data", "features", "objectives", "training",
    },
    "scoring": {"config", "data"},
    "reports": {
        "ops", "config", "modules", "models", "data", "features", "objectives", "training",
        "decoding", "scoring",
    },
    "cli": {
        "ops", "config", "modules", "models", "data", "features", "objectives", "training",
        "decoding", "scoring", "reports", "interop",
    },
}  # fmt: skip

# Imported where they are used, so that `import stk` stays light and a missing extra costs nothing.
LAZY = {
    "torchaudio", "transformers", "matplotlib", "tensorboard", "jiwer", "kaldi_native_fbank",
    "ctranslate2",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The package of ``stk`` a file belongs to; a top-level module is its own."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def type_checking_lines(tree: ast.Module) -> set[int]:
    """Lines of imports that only type checkers see; they bind nothing at run time."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in node.body:
                lines.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return lines


def imported(tree: ast.Module) -> list[tuple[int, str, bool]]:
    """Every absolute import: line, dotted name, whether it stands at module level."""
    top = set(map(id, tree.body))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            found.append((node.lineno, node.module or "", id(node) in top))
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    here = room(path)
    if here == "__init__":  # the package root re-exports lazily
        return
    assert here in ALLOWED, f"{here} is a new package: give it a row in ALLOWED"
    typing_only = type_checking_lines(tree)
    for line, name, _ in imported(tree):
        parts = name.split(".")
        if parts[0] != "stk" or line in typing_only:
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        if there in (here, "errors", "__init__"):
            continue
        assert there in ALLOWED[here], f"{path.name}:{line}: {here} must not import {there}"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for line, name, at_top in imported(tree):
        assert not (at_top and name.split(".")[0] in LAZY), f"{path.name}:{line}: {name} at the top"


def test_ops_need_torch_alone() -> None:
    for path in sorted((PACKAGE / "ops").rglob("*.py")):
        for line, name, _ in imported(ast.parse(path.read_text(encoding="utf-8"))):
            first = name.split(".")[0]
            standard = first in __import__("sys").stdlib_module_names
            assert standard or first in {"torch", "stk"}, f"{path.name}:{line}: imports {name}"
