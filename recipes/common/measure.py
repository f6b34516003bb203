"""Run a command and write down how long it took and how much memory it needed.

    python measure.py OUT.json COMMAND...

OUT.json gets ``command``, ``seconds`` (wall clock), ``cpu_seconds`` and ``peak_mb``: the largest
sum of the proportional set sizes of the command and everything it started, looked at every half
second, or less often where looking takes long (a page that several processes share counts once;
shorter peaks can be missed). The exit code is the command's.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

INTERVAL = 0.5  # seconds between two looks, at least
SHARE = 0.02  # of a core that looking may take: the kernel walks every page table for it


def descendants(root: int) -> list[int]:
    """Process ids of ``root`` and all below it, from /proc."""
    found = [root]
    for pid in found:
        try:
            for listing in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(map(int, listing.read_text().split()))
        except OSError:  # ended while we looked
            continue
    return found


def memory_kb(pid: int) -> int:
    """Proportional set size of one process in kB; resident size where the kernel has no other."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass  # ended, or a kernel without smaps_rollup: the next file tells
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def measure(command: list[str]) -> tuple[int, dict[str, object]]:
    """Run the command with this process's standard streams; its exit code and figures."""
    began = time.monotonic()
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127, {}
    peak = 0
    while True:
        looked = time.thread_time()
        peak = max(peak, sum(map(memory_kb, descendants(process.pid))))
        spent = time.thread_time() - looked
        try:
            status = process.wait(timeout=max(INTERVAL, spent / SHARE))
            break
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:  # the command got it too, and ends as it sees fit
            continue
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return status, {
        "command": command,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(max(peak, used.ru_maxrss) / 1024, 1),
    }


def main() -> int:
    """Measure the command line's command; write the figures only if it succeeded."""
    if len(sys.argv) < 3:
        print(f"usage: {sys.argv[0]} OUT.json COMMAND...", file=sys.stderr)
        return 2
    out = Path(sys.argv[1])
    status, figures = measure(sys.argv[2:])
    if status == 0:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        part.rename(out)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
