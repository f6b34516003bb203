"""Which version of an operator runs, and what is said about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stk.ops import _library

ROOT = Path(__file__).resolve().parents[2]
REPORT = "from stk.ops import _library, fbank; print('on' if _library.kernels_on() else 'off')"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | environment,
    )  # fmt: skip


def test_environment_switches_the_kernels_off_quietly() -> None:
    done = python(REPORT, STK_KERNELS="reference")
    assert done.stdout.strip() == "off" and done.stderr == ""


def test_a_missing_build_is_said_once() -> None:
    hide = "import sys; sys.modules['stk._C'] = None\n"
    call = "fbank(torch.zeros(1, 800), torch.tensor([800]))\n"
    twice = hide + REPORT + "\nimport torch\n" + 2 * call
    done = python(twice, STK_KERNELS="")
    assert done.stdout.strip() == "off"
    assert done.stderr.count("RuntimeWarning") == 1
    assert "plain-PyTorch reference versions" in done.stderr


@pytest.mark.parametrize("name, value", [("STK_KERNELS", "refrence"), ("STK_CHECK", "yes")])
def test_an_unknown_value_is_an_error(name: str, value: str) -> None:
    done = python(REPORT, **{name: value})
    assert done.returncode != 0 and f"{name}={value} is not understood" in done.stderr


def test_a_build_for_another_torch_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Extension:
        torch_version = "1.0.0"

    monkeypatch.setattr("importlib.import_module", lambda name: Extension)
    extension, reason = _library._load()
    assert extension is None
    assert "compiled for torch 1.0.0" in reason and torch.__version__ in reason


def test_importing_the_operators_needs_torch_alone() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import stk.ops;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - {'stk', 'torch'} - sys.stdlib_module_names))"
    )
    assert python(code, STK_KERNELS="reference").stdout.strip() == "[]"


def test_reference_only_is_undone() -> None:
    before = _library.kernels_on()
    with pytest.raises(KeyError), _library.reference_only():
        assert not _library.kernels_on()
        raise KeyError
    assert _library.kernels_on() == before


@pytest.mark.skipif(
    not _library.BUILT or os.environ.get("STK_KERNELS") == "reference",
    reason="the kernels are not built or are switched off",
)
def test_devices_without_kernels() -> None:
    assert _library.kernels_on(torch.device("cpu"))
    assert not _library.kernels_on(torch.device("mps"))
    assert _library.kernels_on(torch.device("meta"))
