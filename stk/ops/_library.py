"""Loads the compiled kernels and registers their shape functions and gradients.

``STK_KERNELS=reference`` in the environment switches every kernel off; ``STK_CHECK=1`` asks the
CUDA kernels' callers to check values too, at the price of waiting for the device. Both are read at
import.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def _load() -> tuple[Any, str]:
    """The extension module or None, and why it is None."""
    try:
        extension = importlib.import_module("stk._C")
    except ModuleNotFoundError:
        return None, "stk was installed without compiled kernels"
    except ImportError as error:
        reason = f"the compiled kernels do not load ({error})"
        return None, f"{reason}; rebuild stk for torch {torch.__version__}"
    if extension.torch_version != torch.__version__:
        return None, (
            f"the kernels were compiled for torch {extension.torch_version} "
            f"but torch {torch.__version__} runs; rebuild stk"
        )
    return extension, ""


def _environment_switch(name: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, "")
    if value and value not in allowed:
        raise ValueError(f"{name}={value} is not understood: use {' or '.join(allowed)}")
    return value


EXTENSION, REASON = _load()
BUILT: bool = EXTENSION is not None
BUILT_CUDA: bool = BUILT and bool(EXTENSION.cuda_version)
CHECK: bool = _environment_switch("STK_CHECK", ("0", "1")) == "1"
_reference_only: bool = _environment_switch("STK_KERNELS", ("reference",)) == "reference"
_cuda_warned: bool = False

if not BUILT and not _reference_only:
    warnings.warn(
        f"stk.ops runs its slower plain-PyTorch reference versions: {REASON} "
        "(STK_KERNELS=reference silences this)",
        RuntimeWarning,
        stacklevel=2,
    )


def kernels_on(device: torch.device | None = None) -> bool:
    """Whether the compiled kernels run (on tensors of ``device``, where one is given).

    False without a build, under ``STK_KERNELS=reference`` and inside :func:`reference_only`; False
    too for a device that the build has no kernels for, which for CUDA is said once.
    """
    if not BUILT or _reference_only:
        return False
    if device is None or device.type in ("cpu", "meta"):
        return True
    if device.type != "cuda":
        return False
    if not BUILT_CUDA:
        _warn_no_cuda()
    return BUILT_CUDA


def _warn_no_cuda() -> None:
    global _cuda_warned
    if not _cuda_warned and not torch.compiler.is_compiling():
        _cuda_warned = True
        warnings.warn(
            "stk.ops has no CUDA kernels in this build, so CUDA tensors take the slower reference "
            "versions; `python -m stk.cli.doctor` says how to mend it",
            RuntimeWarning,
            stacklevel=4,
        )


@contextmanager
def reference_only(on: bool = True) -> Iterator[None]:
    """Run the plain-PyTorch references inside the block (process-wide, not per thread)."""
    global _reference_only
    before, _reference_only = _reference_only, on
    try:
        yield
    finally:
        _reference_only = before


def register_fake(name: str) -> Callable[[F], F]:
    """``torch.library.register_fake("stk::<name>")``, or nothing where it is not built."""

    def register(function: F) -> F:
        if BUILT:
            torch.library.register_fake(f"stk::{name}")(function)
        return function

    return register


def register_autograd(
    name: str, backward: Callable[..., Any], setup_context: Callable[..., None] | None = None
) -> None:
    """``torch.library.register_autograd("stk::<name>", ...)``, or nothing where it is not built."""
    if BUILT:
        torch.library.register_autograd(f"stk::{name}", backward, setup_context=setup_context)


def forbid_gradient(name: str, message: str) -> None:
    """Make differentiating operator ``stk::<name>`` raise RuntimeError with ``message``.

    For ``*_backward`` operators (no second-order gradient) and for those that are forward only.
    """

    def refuse(ctx: Any, *grads: torch.Tensor) -> None:
        raise RuntimeError(f"stk.ops.{name.removesuffix('_backward')}: {message}")

    register_autograd(name, refuse)
