"""What the tests on a GPU share: inputs that can be drawn again, and memory that is poisoned."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fresh_seed() -> int:
    """Seed the generators anew; the seed is printed, so that a failure can be repeated."""
    seed = torch.seed()
    print(f"torch.manual_seed({seed})")
    return seed


@contextmanager
def poisoned() -> Iterator[None]:
    """Inside the block fresh memory holds NaN or the largest integer: what is not written shows.

    PyTorch fills the memory it hands out, in C++ too, while only deterministic algorithms are
    asked for; that some have none is no concern here.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside the block, waiting for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
