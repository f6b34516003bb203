"""Times stk.ops.fbank beside torchaudio's compliance.kaldi.fbank and kaldi-native-fbank, same run.

    python tests/bench/bench_fbank.py [--device cpu|cuda] [--threads N] [--csv FILE]

16 clips of 10 s on the CPU and 64 on a GPU, fp32, 80 bins. On a GPU the share of the time that
moving waveforms and features once takes at the measured copy bandwidth is given too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import Result, arguments, compare, copy_bandwidth, measure, write

from stk.ops import fbank

SECONDS = 10
RATE = 16000


def torchaudio_features(waves: torch.Tensor) -> Callable[[], object]:
    from torchaudio.compliance import kaldi

    scaled = waves * 32768.0
    return lambda: [kaldi.fbank(wave[None], num_mel_bins=80, dither=0.0) for wave in scaled]


def native_features(waves: torch.Tensor) -> Callable[[], object]:
    import kaldi_native_fbank as native

    options = native.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    clips = [(wave * 32768.0).numpy() for wave in waves]

    def run() -> list[list[object]]:
        output = []
        for clip in clips:
            computer = native.OnlineFbank(options)
            computer.accept_waveform(RATE, clip)
            computer.input_finished()
            output.append([computer.get_frame(i) for i in range(computer.num_frames_ready)])
        return output

    return run


def rows(args: argparse.Namespace) -> list[Result]:
    clips = 64 if args.device == "cuda" else 16
    generator = torch.Generator().manual_seed(0)
    waves = (torch.randn(clips, SECONDS * RATE, generator=generator) * 0.1).to(args.device)
    lengths = torch.full((clips,), SECONDS * RATE, device=args.device)
    case = f"{clips} x {SECONDS} s"
    functions: dict[str, Callable[[], object]] = {
        "stk": lambda: fbank(waves, lengths),
        "torchaudio": torchaudio_features(waves),
    }
    if args.device == "cpu":
        functions["kaldi-native-fbank"] = native_features(waves)
    result = compare("fbank", case, functions, args)
    ours = result[0].timing.median
    int16 = (waves * 32767).clamp(-32768, 32767).to(torch.int16)
    variants: dict[str, Callable[[], object]] = {
        "int16": lambda: fbank(int16, lengths),
        "utterance CMVN": lambda: fbank(waves, lengths, cmvn="utterance"),
        "dither": lambda: fbank(waves, lengths, dither=1.0),
    }
    for name, timing in measure(variants, args).items():
        result.append(Result("fbank", f"{case}, {name}", "stk", timing))
    print(f"fbank: {clips * SECONDS * 1000.0 / ours:,.0f} times real time")
    if args.device == "cuda":
        features = fbank(waves, lengths).features
        bound = (waves.nbytes + features.nbytes) / copy_bandwidth() * 1000.0
        print(f"fbank: bandwidth bound {bound:.4f} ms, {bound / ours:.0%} of the time")
    return result


if __name__ == "__main__":
    parsed = arguments(__doc__)
    write(rows(parsed), parsed)
