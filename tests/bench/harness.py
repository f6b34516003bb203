"""What the benches share: timing in turn, peak memory, and two CSV layouts.

Times: op, case, name, device, threads, hardware, versions, commit, median_ms, p10_ms, p90_ms,
ratio (the peer's median over stk's; empty on stk's own rows), peak_mb (above what was held before).

Rates of reading sound: op, case, hardware, versions, commit, and the median, lowest and highest of
several tries as times real time a core.
"""

from __future__ import annotations

import argparse
import csv
import gc
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import torch

COLUMNS = (
    "op", "case", "name", "device", "threads", "hardware", "versions", "commit",
    "median_ms", "p10_ms", "p90_ms", "ratio", "peak_mb",
)  # fmt: skip
RATE_COLUMNS = ("op", "case", "hardware", "versions", "commit", "median", "lowest", "highest")
ROOT = Path(__file__).resolve().parents[2]
OURS = "stk"


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call and megabytes (10^6) it needed above what was held before."""

    median: float
    p10: float
    p90: float
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """One line of the table: ``name`` is "stk" or a peer, ``ratio`` how much slower a peer is."""

    op: str
    case: str
    name: str
    timing: Timing
    ratio: float | None = None


@dataclass(frozen=True)
class Rate:
    """Seconds of sound that one core reads in a second of its CPU time, one value a try."""

    op: str
    case: str
    values: tuple[float, ...]


def arguments(
    description: str | None, more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """``--device --threads --repeats --seconds --csv``, and those that ``more`` adds; sets the
    number of threads."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=30, help="calls of each function, at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each function, at most")
    parser.add_argument("--csv", type=Path, help="file to append the rows to")
    if more is not None:
        more(parser)
    parsed = parser.parse_args()
    if parsed.repeats < 2:
        parser.error("--repeats is at least 2: one call has no spread")
    torch.set_num_threads(parsed.threads)
    return parsed


def _seconds(function: Callable[[], object], device: str, threads: int = 0) -> float:
    """Device time on a GPU; on one CPU thread its CPU time, which other programs disturb less than
    wall time; on several threads wall time."""
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000.0
    clock = time.process_time if threads == 1 else time.perf_counter
    began = clock()
    function()
    return clock() - began


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_mb(function: Callable[[], object], device: str) -> float:
    """Most memory one call holds above what was held before, in 10^6 bytes."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident
    before = _resident("VmRSS")
    function()
    return max(0, _resident("VmHWM") - before) / 1e6


def measure(
    functions: dict[str, Callable[[], object]], args: argparse.Namespace
) -> dict[str, Timing]:
    """Time the functions in turn, so that whatever disturbs the machine disturbs them alike.

    The first call of each is a warm-up and gives its peak memory. Stops after ``args.repeats``
    rounds or ``args.seconds`` for each function, but not before five rounds.
    """
    peaks = {name: peak_mb(function, args.device) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    began = time.perf_counter()
    for done in range(args.repeats):
        if done >= 5 and time.perf_counter() - began > args.seconds * len(functions):
            break
        for name, function in functions.items():
            times[name].append(_seconds(function, args.device, args.threads) * 1000.0)
    timings = {}
    for name, values in times.items():
        tenths = statistics.quantiles(values, n=10, method="inclusive")
        timings[name] = Timing(statistics.median(values), tenths[0], tenths[-1], peaks[name])
    return timings


def compare(
    op: str, case: str, functions: dict[str, Callable[[], object]], args: argparse.Namespace
) -> list[Result]:
    """Rows of one case; ``functions`` holds "stk" and its peers."""
    timings = measure(functions, args)
    ours = timings[OURS].median
    return [
        Result(op, case, name, timing, None if name == OURS else timing.median / ours)
        for name, timing in timings.items()
    ]


def copy_bandwidth() -> float:
    """Bytes per second of a large copy within the GPU, bytes read and written counted."""
    source = torch.empty(1 << 28, device="cuda", dtype=torch.float32).normal_()
    target = torch.empty_like(source)
    copies = sorted(_seconds(lambda: target.copy_(source), "cuda") for _ in range(20))
    return 2 * source.nbytes / copies[len(copies) // 2]


def hardware(device: str) -> str:
    """Name of the processor that was timed."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions(device: str) -> str:
    """torch and, on a GPU, CUDA."""
    cuda = f", CUDA {torch.version.cuda}" if device == "cuda" else ""
    return f"torch {torch.__version__}{cuda}"


def commit() -> str:
    """Short hash of the checkout, with a plus where files differ from it."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write(results: list[Result], args: argparse.Namespace) -> None:
    """Print the rows, and append them to ``args.csv`` where that is given."""
    about = (args.device, args.threads, hardware(args.device), versions(args.device), commit())
    lines = []
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
        numbers = [f"{value:.4g}" for value in astuple(result.timing)]
        lines.append((result.op, result.case, result.name, *about, *numbers[:3], ratio, numbers[3]))
        print(
            f"{result.op:<17} {result.case:<36} {result.name:<20} {numbers[0]:>9} ms "
            f"({numbers[1]} to {numbers[2]})  {ratio and ratio + 'x':>8}  {numbers[3]} MB"
        )
    append(args.csv, COLUMNS, lines)


def write_rates(rates: list[Rate], path: Path | None) -> None:
    """Print rates of one CPU thread, and append them to ``path`` where that is given."""
    about = (hardware("cpu"), versions("cpu"), commit())
    lines = []
    for rate in rates:
        values = (statistics.median(rate.values), min(rate.values), max(rate.values))
        numbers = [f"{value:.0f}" for value in values]
        lines.append((rate.op, rate.case, *about, *numbers))
        print(
            f"{rate.op}, {rate.case}: {numbers[0]}x real time a core "
            f"({numbers[1]} to {numbers[2]} in {len(rate.values)} tries)"
        )
    append(path, RATE_COLUMNS, lines)


def append(path: Path | None, columns: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    """Append rows to a CSV file, which gets a head where it is new; None: nothing is written."""
    if path is None:
        return
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(columns)
        writer.writerows(lines)
