"""What every test file shares: which tests can run on this machine."""

from __future__ import annotations

import pytest
import torch

from stk.ops import _library


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``cuda`` where they cannot run, and say why."""
    if not torch.cuda.is_available():
        reason = "no NVIDIA GPU is seen by torch"
    elif not _library.BUILT_CUDA:
        reason = "stk is not built with CUDA kernels"
    else:
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason=reason))
