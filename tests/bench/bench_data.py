"""Data loading from FLAC with filterbank features: times real time per core, share of waiting.

    python tests/bench/bench_data.py [--clips 600] [--workers 1] [--repeats 3] [--csv FILE]

It writes its own clips (noise shaped like speech: syllable-like loudness over a falling spectrum)
to a temporary directory. FILE gets the rows of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from harness import Rate, write_rates

from stk.config.run import AugmentConfig, BatchConfig, FeatureConfig, MixingConfig, StreamConfig
from stk.data.audio import load_audio
from stk.data.batch import Batch, Item, Size, Source
from stk.data.example import Example
from stk.data.loader import Loader
from stk.data.manifest import write_manifest
from stk.data.stream import Stream
from stk.features.frontend import FrontEnd
from stk.objectives.base import CollateContext, Objective

RATE = 16000


@dataclass(frozen=True)
class SoundBatch(Batch):
    """Features alone."""

    source: Source


class SoundObjective(Objective):
    """Reads sound and nothing else."""

    needs = frozenset({"audio"})
    reads_audio = True

    def size(self, example: Example, context: CollateContext) -> Size:
        assert context.frontend is not None and example.duration is not None
        return Size(frames=context.frontend.frames(example.duration))

    def collate(self, items: Sequence[Item], context: CollateContext) -> SoundBatch:
        assert context.frontend is not None
        waveforms = [item.waveform for item in items if item.waveform is not None]
        rngs = [item.rng for item in items]
        source = context.frontend(waveforms, rngs, context.augment)
        return SoundBatch(tuple(item.example.id for item in items), source)

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"examples": float(len(batch.ids))}

    def forward(self, model: Any, batch: Any, context: Any) -> dict[str, Any]:
        raise AssertionError("nothing is trained here")


def speechlike(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """``(N,)`` noise with a falling spectrum and four loud stretches a second."""
    samples = round(seconds * RATE)
    noise = np.fft.rfft(rng.standard_normal(samples))
    noise *= 1 / (1 + np.linspace(0, 40, len(noise)))
    wave = np.fft.irfft(noise, samples)
    wave *= 0.05 + np.abs(np.sin(2 * np.pi * 2 * np.arange(samples) / RATE))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def make_corpus(folder: Path, clips: int) -> tuple[Path, float]:
    """Write clips of 1 to 12 s and their manifest; return it and the seconds of sound."""
    rng = np.random.default_rng(0)
    examples = []
    for i in range(clips):
        wave = speechlike(float(rng.uniform(1, 12)), rng)
        path = folder / f"{i}.flac"
        soundfile.write(path, wave, RATE)
        examples.append(Example(id=str(i), audio=path, duration=len(wave) / RATE))
    write_manifest(folder / "train.jsonl", examples)
    return folder / "train.jsonl", sum(e.duration or 0.0 for e in examples)


def make_stream(manifest: Path, augment: AugmentConfig) -> Stream:
    """One stream of 12,000 padded frames a batch."""
    config = StreamConfig(
        name="sound",
        manifests=(str(manifest),),
        objective={"name": "sound"},
        batch=BatchConfig(max_frames=12000),
        augment=augment,
    )
    context = CollateContext(vocabs={}, frontend=FrontEnd(FeatureConfig()))
    return Stream(config, SoundObjective(), context)


def measure(stream: Stream, seconds: float, *, cpu: bool = True) -> float:
    """Times real time over one epoch in this process, on its own CPU time."""
    batches = len(stream.plan(1).epoch(0).batches)
    loader = Loader([stream], MixingConfig(), seed=1)
    next(iter(loader))  # imports and tables
    clock = time.process_time if cpu else time.perf_counter
    began = clock()
    for _ in islice(Loader([stream], MixingConfig(), seed=1), batches):
        pass
    return seconds / (clock() - began)


def parts(stream: Stream) -> tuple[float, float]:
    """Times real time of reading alone and of features alone."""
    examples = [stream.example(i) for i in range(min(200, len(stream)))]
    seconds = sum(e.duration or 0.0 for e in examples)
    began = time.process_time()
    waves = [load_audio(e.audio, e.start, e.duration) for e in examples if e.audio]
    read = seconds / (time.process_time() - began)
    frontend = stream.context.frontend
    assert frontend is not None
    began = time.process_time()
    for i in range(0, len(waves), 20):
        frontend(waves[i : i + 20])
    return read, seconds / (time.process_time() - began)


def waiting(stream: Stream, workers: int, speed: float) -> tuple[float, float]:
    """Share of time that a consumer waits which trains at ``speed`` times real time."""
    batches = 2 * len(stream.plan(1).epoch(0).batches)
    loader = Loader([stream], MixingConfig(), seed=1, workers=workers)
    began = 0.0
    for i, micro in enumerate(islice(loader, batches)):
        if i == 0:
            began = time.perf_counter()
        # the toy consumer computes for as long as training on this batch would take
        until = time.perf_counter() + micro.info.frames / 100 / speed
        x = torch.ones(64, 64)
        while time.perf_counter() < until:
            x = x @ x / 64
    whole = time.perf_counter() - began
    return loader.waited / whole, loader.startup


def rates(manifest: Path, seconds: float, repeats: int) -> list[Rate]:
    """Reading and features alone, both with batches made, and the same with augmentation."""
    case = "clips of 1 to 12 s"
    full = AugmentConfig(speed=(0.9, 1.0, 1.1), specaugment="ld")
    plain, augmented = (make_stream(manifest, a) for a in (AugmentConfig(), full))
    reading, features = zip(*(parts(plain) for _ in range(repeats)), strict=True)
    loading = tuple(measure(plain, seconds) for _ in range(repeats))
    heard = tuple(measure(augmented, seconds) for _ in range(repeats))
    return [
        Rate("FLAC", case, reading),
        Rate("fbank", case, features),
        Rate("FLAC, fbank", case, loading),
        Rate("FLAC, fbank, speed, SpecAugment", case, heard),
    ]


def main() -> None:
    """Print the figures."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--clips", type=int, default=600)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--train-speed", type=float, default=200.0, help="consumer, times real time")
    p.add_argument("--csv", type=Path, help="file to append the rows to")
    args = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        manifest, seconds = make_corpus(Path(folder), args.clips)
        plain = make_stream(manifest, AugmentConfig())
        report = plain.report()
        print(f"{args.clips} clips, {seconds / 3600:.2f} h; {os.cpu_count()} cores; one thread")
        print(f"padding: {100 * report.padding:.1f} % at 12,000 frames a batch")
        write_rates(rates(manifest, seconds, args.repeats), args.csv)
        share, startup = waiting(plain, args.workers, args.train_speed)
        print(
            f"waiting: {100 * share:.2f} % of the time, {args.workers} worker(s), a consumer at "
            f"{args.train_speed:.0f}x real time; first batch after {startup:.2f} s"
        )


if __name__ == "__main__":
    main()
