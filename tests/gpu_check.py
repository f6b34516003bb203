"""Builds the kernels, checks and times them on the GPU of this machine, and writes one CSV.

    python tests/gpu_check.py [--csv FILE] [--skip-build] [--skip-sanitizer] [--skip-bench]

1. builds the extension in place with CUDA;
2. runs every test marked ``cuda``;
3. runs small shapes of every operator under compute-sanitizer (reported; not counted as a failure
   where the tool is missing or refuses the device);
4. runs every bench of a kernel with ``--device cuda --csv FILE``.

The exit status is 0 where the build, the tests and the benches succeeded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OPS = ("fbank", "ctc_shrink", "gumbel_vq", "attention")
TOOLS = ("memcheck", "racecheck", "initcheck")
HERE = {"PYTHONPATH": str(ROOT)}  # what was built in place, not what is installed
# Words of compute-sanitizer when it cannot work here, as opposed to having found something.
REFUSALS = ("not supported", "Unable to", "not permitted", "Internal Sanitizer Error", "Failed to")


def step(title: str, command: list[str], **environment: str) -> bool:
    """Run a command with its output shown; True where it succeeded."""
    print(f"== {title}: {' '.join(command)}", flush=True)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=os.environ | HERE | environment).returncode
    print(f"== {title}: {'passed' if code == 0 else 'FAILED'}, {time.monotonic() - began:.0f} s")
    return code == 0


def sanitize(tool: str) -> str:
    """One line on what compute-sanitizer's ``tool`` said of the small shapes."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "not run: compute-sanitizer is not on PATH"
    command = [program, "--tool", tool, "--error-exitcode", "3", sys.executable]
    try:
        done = subprocess.run(
            [*command, "tests/small_shapes.py"], cwd=ROOT, env=os.environ | HERE, timeout=600,
            capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "not finished within 600 s"
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("====")]
    last = said[-1].strip("= ") if said else "no word"
    if done.returncode == 0:
        return f"clean: {last}"
    if any(word in line for line in said for word in REFUSALS):
        return f"refused the device: {last}"
    print("\n".join(said[:60]))
    return f"FOUND SOMETHING (status {done.returncode}): {last}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, default=ROOT / "build" / "gpu_check.csv")
    for name in ("build", "sanitizer", "bench"):
        parser.add_argument(f"--skip-{name}", action="store_true")
    args = parser.parse_args()
    python, passed = sys.executable, True
    if not args.skip_build:
        passed = step("build", [python, "setup.py", "build_ext", "--inplace"], STK_CUDA="1")
    if not passed:
        return 1
    tests = [python, "-m", "pytest", "-q", "-m", "cuda", "tests"]
    passed = step("tests", tests)
    if not args.skip_sanitizer:
        for tool in TOOLS:
            print(f"== compute-sanitizer {tool}: {sanitize(tool)}", flush=True)
    if not args.skip_bench:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        args.csv.unlink(missing_ok=True)
        for op in OPS:
            bench = [python, f"tests/bench/bench_{op}.py", "--device", "cuda"]
            passed &= step(f"bench {op}", [*bench, "--csv", str(args.csv.resolve())])
        print(f"== rows: {args.csv}")
    print(f"== gpu-check {'passed' if passed else 'FAILED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
