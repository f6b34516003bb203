"""Reading segments of long WAV files (the layout of MuST-C) with filterbank features, on one core.

    python tests/bench/bench_segments.py [--talks 6] [--minutes 15] [--repeats 3] [--csv FILE]

It writes its own talks (see bench_data.py) to a temporary directory. A figure is seconds of sound
over CPU seconds of this process, which other programs disturb less than wall time; no batch is
kept. FILE gets the rows of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from bench_data import RATE, make_stream, measure, speechlike
from harness import Rate, write_rates

from stk.config.run import AugmentConfig
from stk.data.audio import load_audio
from stk.data.example import Example
from stk.data.manifest import write_manifest


def make_talks(folder: Path, talks: int, minutes: float) -> tuple[Path, float]:
    """Write talks and the manifest of their segments, 1 to 12 s; return it and seconds in all."""
    rng = np.random.default_rng(0)
    rows = []
    for talk in range(talks):
        wave = speechlike(60 * minutes, rng)
        path = folder / f"ted_{talk}.wav"
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        at = 0.0
        while at + 13 < 60 * minutes:
            length = float(rng.uniform(1, 12))
            rows.append(Example(id=str(len(rows)), audio=path, start=at, duration=length))
            at += length + float(rng.uniform(0, 1))
    write_manifest(folder / "train.jsonl", rows)
    return folder / "train.jsonl", sum(row.duration or 0.0 for row in rows)


def reading(examples: list[Example]) -> float:
    """Times real time of reading alone."""
    began = time.process_time()
    for row in examples:
        assert row.audio is not None
        load_audio(row.audio, row.start, row.duration)
    return sum(row.duration or 0.0 for row in examples) / (time.process_time() - began)


def main() -> None:
    """Write talks, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--talks", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="file to append the rows to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tries = range(options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        manifest, seconds = make_talks(Path(folder), options.talks, options.minutes)
        stream = make_stream(manifest, AugmentConfig())
        examples = [stream.example(index) for index in range(len(stream))]
        print(f"{len(examples)} segments of {options.talks} talks, {seconds / 3600:.2f} hours")
        case = f"talks of {options.minutes:g} minutes"
        alone = Rate("WAV segments", case, tuple(reading(examples) for _ in tries))
        whole = tuple(measure(stream, seconds) for _ in tries)
        write_rates([alone, Rate("WAV segments, fbank", case, whole)], options.csv)


if __name__ == "__main__":
    main()
