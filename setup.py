"""Builds the kernel extension ``stk._C``; everything else about the package is in pyproject.toml.

Environment variables read here:

* ``STK_BUILD=0``: install the Python code alone, without compiling anything.
* ``STK_CUDA=0|1``: never build the CUDA kernels, or fail where they cannot be built. Unset: build
  them where a CUDA compiler of torch's major version is found. No GPU is looked for: a login node
  without one builds the same extension as the machine that will run it.
* ``TORCH_CUDA_ARCH_LIST``: CUDA architectures, by default ``8.0;9.0+PTX``.
* ``CUDA_HOME``, ``CXX``, ``MAX_JOBS``: as for every torch extension.
"""

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DEFAULT_ARCHS = "8.0;9.0+PTX"
CXX_FLAGS = ["-O3", "-g0", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math", "-fopenmp"]
NVCC_FLAGS = ["-O3", "-lineinfo", "-DSTK_WITH_CUDA"]


def say(message: str) -> None:
    print(f"stk: {message}", file=sys.stderr, flush=True)


def switch(name: str) -> bool | None:
    """Value of an on/off environment variable; None where it is unset."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"stk: {name}={value} is not understood: use 0 or 1, or leave it unset")
    return None if value == "" else value == "1"


def toolkit() -> tuple[Path, str] | None:
    """Root and release of the CUDA toolkit whose nvcc would run, wrapper scripts seen through."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    candidates = (
        [str(Path(home) / "bin" / "nvcc")] if home else ["nvcc", "/usr/local/cuda/bin/nvcc"]
    )
    nvcc = next((found for found in map(shutil.which, candidates) if found), None)
    if nvcc is None:
        return None
    try:
        version = subprocess.run(
            [nvcc, "--version"], capture_output=True, text=True, check=True
        ).stdout
        dry = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"{nvcc} does not run ({error}); taken as no CUDA compiler")
        return None
    release = re.search(r"release (\d+\.\d+)", version)
    top = re.search(r"^#\$ TOP=(.+)$", dry.stderr, flags=re.MULTILINE)
    if release is None:
        return None
    root = Path(top.group(1)).resolve() if top else Path(nvcc).resolve().parents[1]
    return root, release.group(1)


def cuda_toolkit(torch) -> Path | None:
    """Toolkit to build the CUDA kernels with, or None for a CPU build; says why in one line."""
    wanted = switch("STK_CUDA")
    if wanted is False:
        return None
    found = toolkit()
    if torch.version.cuda is None:
        reason = "this torch has no CUDA; install a CUDA build of torch"
    elif found is None:
        reason = f"no nvcc found; put CUDA {torch.version.cuda} on PATH or set CUDA_HOME"
    elif found[1].split(".")[0] != torch.version.cuda.split(".")[0]:
        reason = f"nvcc is CUDA {found[1]} but torch has {torch.version.cuda}; set CUDA_HOME"
    else:
        return found[0]
    if wanted:
        sys.exit(f"stk: STK_CUDA=1, but {reason}")
    say(f"CPU kernels only: {reason} (STK_CUDA=0 silences this)")
    return None


def wheel_dirs(torch, name: str) -> list[str]:
    """Folders ``include`` or ``lib`` of the CUDA wheels that were installed beside torch."""
    nvidia = Path(torch.__file__).resolve().parents[1] / "nvidia"
    return sorted(str(path) for path in nvidia.glob(f"*/{name}") if path.is_dir())


def cudart(torch, root: Path) -> tuple[list[str], list[str]]:
    """Library folders and link arguments for the CUDA runtime; the one torch loads comes first."""
    major = torch.version.cuda.split(".")[0]
    folders = [*wheel_dirs(torch, "lib"), str(root / "lib64"), str(root / "lib")]
    for name in (f"libcudart.so.{major}", "libcudart.so"):
        for folder in folders:
            if (Path(folder) / name).exists():
                return [folder], [f"-l:{name}"]
    sys.exit(
        f"stk: no libcudart.so.{major} in {', '.join(folders)}; install the CUDA {major} runtime"
    )


def write_build_info(torch, archs: str, cuda: str) -> Path:
    """Generated header with what this build is for; rewritten only when it changes."""
    folder = ROOT / "build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"#define STK_INFO_{key} {json.dumps(value)}\n"
        for key, value in (("TORCH", torch.__version__), ("CUDA", cuda), ("ARCHS", archs))
    )
    header = folder / "stk_build_info.h"
    if not header.exists() or header.read_text() != text:
        header.write_text(text)
    return folder


def kernel_extension(torch) -> Extension:
    """The one extension: csrc/schema.cpp and every csrc/<op>/*.cpp and, with CUDA, *.cu."""
    root = cuda_toolkit(torch)
    if root is not None:
        os.environ["CUDA_HOME"] = str(root)
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHS)
    if shutil.which("ninja") is None and importlib.util.find_spec("ninja"):
        # Its wheel puts the program beside this interpreter, which PATH need not name.
        os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)
    # Its only warning at import is that there is no GPU here, which does not matter to a build.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.cpp_extension import CppExtension

    archs = os.environ["TORCH_CUDA_ARCH_LIST"] if root else ""
    info = write_build_info(torch, archs, torch.version.cuda if root else "")
    sources = [ROOT / "csrc" / "schema.cpp", *sorted((ROOT / "csrc").glob("*/*.cpp"))]
    cxx = [*CXX_FLAGS]
    options: dict = {"extra_link_args": ["-Wl,-s"] if sys.platform == "linux" else []}
    include = [str(ROOT / "csrc"), str(info)]
    if root is None:
        sources = [path for path in sources if not path.stem.endswith("_cuda")]
    else:
        sources += sorted((ROOT / "csrc").glob("*/*.cu"))
        include += [str(root / "include"), *wheel_dirs(torch, "include")]
        options["library_dirs"], link = cudart(torch, root)
        options["libraries"] = ["c10_cuda"]
        options["extra_link_args"] += link
        cxx.append("-DSTK_WITH_CUDA")
    return CppExtension(
        "stk._C",
        [str(path.relative_to(ROOT)) for path in sources],
        include_dirs=include,
        extra_compile_args={"cxx": cxx, "nvcc": NVCC_FLAGS},
        **options,
    )


def build_commands() -> tuple[list[Extension], dict]:
    """Extensions and commands for setup(): kernels, nothing, or a command that names what lacks."""
    if switch("STK_BUILD") is False:
        return [], {}
    try:
        import torch
    except ImportError:

        class MissingTorch(build_ext):
            def run(self) -> None:
                sys.exit(
                    "stk: torch is not installed where stk is built; run "
                    "`pip install -c constraints.txt torch` and then "
                    "`pip install --no-build-isolation -c constraints.txt .` "
                    "(STK_BUILD=0: no kernels)"
                )

        return [Extension("stk._C", [])], {"build_ext": MissingTorch}
    if shutil.which(os.environ.get("CXX", "c++").split()[0]) is None:
        say(
            "no C++ compiler (c++, or CXX); installing without kernels: the slower reference "
            "versions will run"
        )
        return [], {}
    extension = kernel_extension(torch)
    from torch.utils.cpp_extension import BuildExtension

    class KernelBuild(BuildExtension):
        def build_extensions(self) -> None:
            plain = self.compiler.object_filenames

            def object_filenames(sources, *args, **kwargs) -> list[str]:
                """As distutils names them, but <op>_cuda.cpp and <op>_cuda.cu apart."""
                names = plain(sources, *args, **kwargs)
                cuda = [str(source).endswith(".cu") for source in sources]
                return [n[:-2] + ".cu.o" if c else n for n, c in zip(names, cuda, strict=True)]

            self.compiler.object_filenames = object_filenames
            try:
                super().build_extensions()
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                sys.exit(
                    f"stk: the kernels were not built: {reason} "
                    "(STK_CUDA=0: CPU only; STK_BUILD=0: none)"
                )

    return [extension], {"build_ext": KernelBuild}


if __name__ == "__main__":
    extensions, commands = build_commands()
    setup(ext_modules=extensions, cmdclass=commands)
