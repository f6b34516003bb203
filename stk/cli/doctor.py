"""``stk-doctor``: what is installed, what the kernels were built for, and what does not match."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import shutil
import sys
import warnings
from collections.abc import Sequence

import torch

from stk import __version__
from stk.cli.common import run

PACKAGES = (
    "torchaudio", "numpy", "omegaconf", "soundfile", "soxr", "sentencepiece", "sacrebleu",
    "safetensors", "rich",
)  # fmt: skip
REBUILD = "pip install --no-build-isolation ."


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _covers(archs: str, capability: tuple[int, int]) -> bool:
    """Whether code for ``archs`` (such as ``8.0;9.0+PTX``) runs on a GPU of ``capability``.

    Machine code runs on its own major version from its minor version up; PTX on anything newer.
    """
    for arch in archs.replace(" ", ";").split(";"):
        name, _, ptx = arch.partition("+")
        major, _, minor = name.rstrip("abcdefghijklmnopqrstuvwxyz").partition(".")
        built = (int(major), int(minor))
        same_major = built[0] == capability[0] and built <= capability
        if same_major or (ptx and built <= capability):
            return True
    return False


def _devices() -> list[tuple[str, tuple[int, int]]]:
    return [
        (torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index))
        for index in range(torch.cuda.device_count())
    ]


def _report() -> tuple[list[tuple[str, str]], list[str]]:
    """Rows of (what, value) and the problems found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the missing build is told below
        from stk.ops import _library
    rows = [
        ("stk", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}"),
        ("cpu threads", f"{torch.get_num_threads()}, {torch.backends.cpu.get_cpu_capability()}"),
        *((package, _version(package)) for package in PACKAGES),
    ]
    problems = [f"{name} is not installed" for name, value in rows if value == "not installed"]
    devices = _devices()
    rows += [("gpu", f"{name}, compute capability {a}.{b}") for name, (a, b) in devices]
    rows += [("gpu", "none seen")] if not devices else []
    rows.append(("nvcc", shutil.which("nvcc") or "not on PATH"))
    if not _library.BUILT:
        rows.append(("kernels", "not built: the reference versions run"))
        return rows, [*problems, f"{_library.REASON}; run `{REBUILD}`"]
    built = _library.EXTENSION
    cuda = f"CUDA {built.cuda_version} for {built.cuda_archs}" if built.cuda_version else "no CUDA"
    rows.append(("kernels", f"CPU and {cuda}, torch {built.torch_version}, {built.compiler}"))
    rows.append(("kernels on", str(_library.kernels_on())))
    if devices and not built.cuda_version:
        problems.append(f"a GPU is here but the kernels have no CUDA; run `STK_CUDA=1 {REBUILD}`")
    for name, (a, b) in devices:
        if built.cuda_version and not _covers(built.cuda_archs, (a, b)):
            problems.append(
                f"the kernels are built for {built.cuda_archs} but {name} is {a}.{b}; "
                f"run `TORCH_CUDA_ARCH_LIST={a}.{b} {REBUILD}`"
            )
    return rows, problems


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-doctor``: none but ``--help``."""
    return argparse.ArgumentParser(prog="stk-doctor", description=__doc__)


def _main(arguments: list[str]) -> int:
    parser().parse_args(arguments)
    rows, problems = _report()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for problem in problems:
        print(f"problem: {problem}")
    print("no problems found" if not problems else f"{len(problems)} problem(s) found")
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; 0 where nothing is wrong and 1 otherwise."""
    return run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
