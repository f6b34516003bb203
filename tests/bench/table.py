"""Writes docs/benchmarks.md from the CSV files that the benches made (their layouts: harness.py).

    python tests/bench/table.py [--output docs/benchmarks.md] [CSV ...]

Without files: every CSV in tests/bench/results/. Of rows for the same case on the same hardware the
last one counts. A target that nobody has measured says so; nothing is estimated.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISSING = "not measured"
Row = dict[str, str]


@dataclass(frozen=True)
class Target:
    """A figure to reach: a ratio to ``peer`` (part of its name) or, without one, memory or time.

    ``threads`` of the CPU; a GPU's figures do not depend on them.
    """

    op: str
    peer: str
    device: str
    figure: str
    threads: int = 1


TARGETS = (
    Target("fbank", "torchaudio", "cpu", "2x"),
    Target("fbank", "torchaudio", "cuda", "10x"),
    Target("ctc_shrink", "groupby loop", "cpu", "8x"),
    Target("ctc_shrink", "groupby loop", "cuda", "20x"),
    Target("gumbel_vq", "broadcast", "cpu", "75x"),
    Target("gumbel_vq", "matrix product", "cpu", "1.7x"),
    Target("gumbel_vq", "broadcast", "cuda", "50x"),
    Target("gumbel_vq_linear", "", "cpu", "under 512 MB"),
    Target("gumbel_vq_linear", "", "cuda", "under 4,000 MB"),
    Target("attention, visible", "sdpa", "cpu", "1.3x"),
    Target("attention, query_lengths", "sdpa", "cpu", "1.6x"),
    Target("attention, query_lengths", "sdpa", "cuda", "1.5x"),
    Target("attention, full length", "flash", "cuda", "0.7x"),
    Target("speech_train", "Speech2Text", "cpu", "1.3x"),
    Target("speech_train", "Speech2Text", "cpu", "1.3x", threads=2),
    Target("speech_decode", "Speech2Text", "cpu", "1.3x"),
    Target("speech_decode", "Speech2Text", "cpu", "1.3x", threads=2),
    Target("mt_train", "Marian", "cpu", "1.3x"),
    Target("mt_train, sentences at random", "Marian", "cpu", "1.3x"),
    Target("mt_decode", "Marian", "cpu", "1.3x"),
    Target("wav2vec2 BASE step", "transformers", "cpu", "1.3x"),
    Target("noise", "", "cpu", "under 5 ms"),
    Target("COSTT semantic encoder", "every state", "cpu", "2x"),
    Target("training step", "teacher in every step", "cpu", "under 1.33x"),
    Target("training step", "teacher's cache", "cpu", "under 1.05x"),
)


RATE_TARGETS = {"WAV segments, fbank": "1,500x", "FLAC, fbank": "1,000x"}
"""Operation -> times real time a core."""

BOUNDS = {
    "mt_train": "Matrix products are about four fifths of both steps; stk has 7 % fewer rows in "
    "this batch, whose padding it leaves out. Sentences at random have more of it, see above.",
}
"""What keeps an operator from its target, where that is known from a profile."""


def read(paths: list[Path]) -> list[Row]:
    """Rows of all files, the last one of each (op, case, name, device, threads, hardware); rates
    have fewer columns."""
    kept: dict[tuple[str, ...], Row] = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = ("op", "case", "name", "device", "threads", "hardware")
                kept[tuple(row.get(name, "") for name in key)] = row
    return list(kept.values())


def rate_table(rows: list[Row]) -> list[str]:
    """Each rate of reading sound beside its target; a target nobody measured says so."""
    heads = ["what", "case", "target", "median", "lowest to highest", "measured on"]
    lines = [line(heads), "|---|---|---|---|---|---|"]
    for op, target in RATE_TARGETS.items():
        if not any(row["op"] == op for row in rows):
            lines.append(line([op, MISSING, target, *[MISSING] * 3]))
    for row in rows:
        where = f"{row['hardware']}, {row['versions']}, commit {row['commit']}"
        spread = f"{row['lowest']}x to {row['highest']}x"
        target = RATE_TARGETS.get(row["op"], "")
        lines.append(line([row["op"], row["case"], target, f"{row['median']}x", spread, where]))
    return lines


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cell or "-" for cell in cells) + " |"


def measured(target: Target, rows: list[Row]) -> tuple[Row, str] | None:
    """stk's first measurement of a target's operator, and the ratio to its peer; None for none."""
    mine = [r for r in rows if r["op"] == target.op and r["device"] == target.device]
    if target.device == "cpu":
        mine = [r for r in mine if r["threads"] == str(target.threads)]
    ours = [r for r in mine if r["name"] == "stk"]
    peers = [r for r in mine if r["name"] != "stk" and target.peer in r["name"]]
    if target.peer:
        ours = [r for r in ours if peers and same_run(r, peers[0])]
    if not ours:
        return None
    return ours[0], f"{peers[0]['ratio']}x" if target.peer else ""


def device(target: Target) -> str:
    return target.device + (f", {target.threads} threads" if target.threads > 1 else "")


def target_table(rows: list[Row]) -> list[str]:
    """Each target beside the first measurement of its operator and peer."""
    heads = ["op", "peer", "device", "target", "case", "ratio", "stk, median", "stk, peak"]
    lines = [line(heads), "|---|---|---|---|---|---|---|---|"]
    for target in TARGETS:
        cells = [target.op, target.peer, device(target), target.figure]
        found = measured(target, rows)
        if found is None:
            lines.append(line([*cells, *[MISSING] * 4]))
            continue
        ours, ratio = found
        numbers = [f"{ours['median_ms']} ms", f"{ours['peak_mb']} MB"]
        lines.append(line([*cells, ours["case"], ratio, *numbers]))
    return lines


def missed(rows: list[Row]) -> list[str]:
    """A line for every target that is not reached, with what bounds it."""
    lines = []
    for target in TARGETS:
        found = measured(target, rows)
        if found is None:
            continue
        ours, ratio = found
        *under, figure = target.figure.removesuffix(" MB").removesuffix(" ms").split()
        number = float(figure.replace(",", "").rstrip("x"))
        value = ratio or (f"{ours['median_ms']} ms" if "ms" in target.figure else ours["peak_mb"])
        reached = float(value.split()[0].rstrip("x"))
        if reached > number if under else reached < number:
            bound = BOUNDS.get(target.op, "Not looked into.")
            lines.append(f"* {target.op}, {device(target)}: {value}, not {target.figure}. {bound}")
    return lines or ["None of those measured."]


def same_run(ours: Row, peer: Row) -> bool:
    return all(ours[name] == peer[name] for name in ("case", "threads", "hardware"))


def full_table(rows: list[Row]) -> list[str]:
    """Every measurement, one table for each (hardware, versions, commit)."""
    lines: list[str] = []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["hardware"], row["versions"], row["commit"]), []).append(row)
    for (hardware, versions, commit), group in groups.items():
        lines += ["", f"### {hardware}, {versions}, commit {commit}", ""]
        heads = ["op", "case", "name", "threads", "median ms", "p10 to p90", "ratio", "peak MB"]
        lines.append(line(heads))
        lines.append("|---|---|---|---|---|---|---|---|")
        for row in group:
            spread = f"{row['p10_ms']} to {row['p90_ms']}"
            ratio = row["ratio"] and row["ratio"] + "x"
            cells = [row[k] for k in ("op", "case", "name", "threads", "median_ms")]
            lines.append(line([*cells, spread, ratio, row["peak_mb"]]))
    return lines


def document(found: list[Row]) -> str:
    """The whole page."""
    rows = [row for row in found if "median_ms" in row]
    rates = [row for row in found if "median_ms" not in row]
    lines = [
        "# Benchmarks",
        "",
        "Made by `python tests/bench/table.py` from the CSV files of `tests/bench/bench_*.py`; not",
        "to be edited by hand. A ratio is the peer's median over stk's, in the same run. Times are",
        "device time on a GPU, CPU time on one CPU thread and wall time on several. Memory is what",
        "a call needs above what was held before it.",
        "",
        "## Targets",
        "",
        *target_table(rows),
        "",
        "## Missed targets",
        "",
        *missed(rows),
        "",
        "## Reading sound",
        "",
        "Times real time a core: seconds of sound over seconds of CPU time, the median of several",
        "tries (`bench_segments.py`: segments of long WAV files; `bench_data.py`: FLAC files).",
        "",
        *rate_table(rates),
        "",
        "## Measurements",
        *(full_table(rows) if rows else ["", MISSING]),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    parser.add_argument("csv", nargs="*", type=Path)
    args = parser.parse_args()
    results = Path(__file__).resolve().parent / "results"
    args.output.write_text(document(read(args.csv or sorted(results.glob("*.csv")))))
    print(args.output)


if __name__ == "__main__":
    main()
