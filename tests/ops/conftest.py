"""Which version of an operator a test runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stk.ops import _library

OFF = "stk was built without kernels, or STK_KERNELS=reference is set"


@pytest.fixture(params=["kernel", "reference"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on the kernels and on the reference that stands in for them."""
    if request.param == "kernel" and not _library.kernels_on():
        pytest.skip(OFF)
    with _library.reference_only(request.param == "reference"):
        yield request.param


@pytest.fixture
def kernel() -> None:
    """Skips a test of the kernels alone where there are none."""
    if not _library.kernels_on():
        pytest.skip(OFF)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where bad input lies; on a GPU its values are looked at too, as ``STK_CHECK=1`` has it."""
    if request.param == "cuda":
        monkeypatch.setattr(_library, "CHECK", True)
    return torch.device(request.param)
