"""A training step of wav2vec 2.0 BASE beside transformers' Wav2Vec2ForPreTraining of its size.

    python tests/bench/bench_wav2vec2.py [--threads 1] [--length 5] [--csv FILE]

Both have the same sizes, dropout, batch of clips and optimiser (fused AdamW), in fp32 on the CPU;
a step draws masked frames and 100 distractors each, then does forward, losses, backward and update.
Layer drop is off in both, so that both do all layers. Two cases: clips of one length, and clips of
several, padded.

Peak memory is that of a process of its own for each: of two steps, above what the model itself
holds, so gradients and the optimiser's moments count. A row of its own gives the time of the
quantiser (both ways) and of drawing distractors, whose share of stk's step is printed too.
``--profile`` prints instead where a step spends its time.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import OURS, Result, Timing, arguments, compare, peak_mb, write
from peers import wav2vec2

from stk.config.run import FeatureConfig
from stk.data.batch import Item
from stk.data.example import Example
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.objectives import contrastive
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import combine
from stk.objectives.contrastive import Contrastive, ContrastiveConfig

RATE, PEER, OP = 16000, "transformers Wav2Vec2ForPreTraining", "wav2vec2 BASE step"
CASES = {"one length": (1.0, 1.0), "padded": (1.0, 0.7, 0.4)}
Step = Callable[[], object]


def clips(seconds: float, parts: tuple[float, ...]) -> list[torch.Tensor]:
    """Noise of ``seconds`` times each part."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(int(RATE * seconds * p), generator=generator) * 0.1 for p in parts]


class Ours:
    """stk's model, objective and step; seconds of the quantiser and the distractors are summed."""

    def __init__(self, waveforms: list[torch.Tensor]) -> None:
        torch.manual_seed(1)
        self.model = build_model({"name": "wav2vec2", "preset": "base", "layer_drop": 0.0}, {}, 1)
        self.model.train()
        self.objective = Contrastive(ContrastiveConfig())
        frontend = FrontEnd(FeatureConfig(kind="waveform", cmvn="none"))
        lengths = self.model.wave_lengths
        self.context = CollateContext(vocabs={}, frontend=frontend, wave_lengths=lengths)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.waveforms, self.step = waveforms, 0
        self.spent, self.total = [0.0], [0.0]  # seconds of every step

    def items(self) -> list[Item]:
        return [
            Item(
                example=Example(id=str(i), file=Path("noise"), row=i + 1),
                rng=np.random.default_rng((self.step, i)),
                waveform=waveform,
            )
            for i, waveform in enumerate(self.waveforms)
        ]

    def __call__(self) -> float:
        began = time.process_time()
        self.spent.append(0.0)
        self.optimizer.zero_grad()
        batch = self.objective.collate(self.items(), self.context)
        sums = self.objective.forward(self.model, batch, Context(step=self.step + 1))
        loss = combine(sums, self.objective.counts(batch))
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.total.append(time.process_time() - began)
        return float(loss.detach())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sums up the time of quantiser (both ways) and of drawing distractors."""
        quantizer, draw = self.model.quantizer, contrastive.draw_distractors
        marks: list[float] = []

        def timed(*args: Any) -> Any:
            began = time.process_time()
            drawn = draw(*args)
            self.spent[-1] += time.process_time() - began
            return drawn

        def enter(*_: Any) -> None:
            marks.append(time.process_time())

        def leave(*_: Any) -> None:
            self.spent[-1] += time.process_time() - marks.pop()

        hooks = [
            quantizer.register_forward_pre_hook(enter),
            quantizer.register_forward_hook(leave),
            quantizer.register_full_backward_pre_hook(enter),
            quantizer.register_full_backward_hook(leave),
        ]
        contrastive.draw_distractors = timed
        try:
            yield
        finally:
            contrastive.draw_distractors = draw
            for hook in hooks:
                hook.remove()


class Theirs:
    """transformers' model and step, with its own drawing of masks and distractors."""

    def __init__(self, waveforms: list[torch.Tensor]) -> None:
        torch.manual_seed(1)
        self.model = wav2vec2().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        longest = max(map(len, waveforms))
        self.values = torch.zeros(len(waveforms), longest)
        self.mask = torch.zeros(len(waveforms), longest, dtype=torch.long)
        for row, waveform in enumerate(waveforms):
            self.values[row, : len(waveform)] = waveform
            self.mask[row, : len(waveform)] = 1
        np.random.seed(1)

    def __call__(self) -> float:
        from transformers.models.wav2vec2 import modeling_wav2vec2 as module

        self.optimizer.zero_grad()
        frames = int(self.model._get_feat_extract_output_lengths(self.values.shape[1]))
        shape = (len(self.values), frames)
        real = self.model._get_feature_vector_attention_mask(frames, self.mask)
        masked = module._compute_mask_indices(shape, 0.65, 10, attention_mask=real, min_masks=2)
        negatives = module._sample_negative_indices(shape, 100, masked)
        out = self.model(
            self.values,
            attention_mask=None if bool(real.all()) else self.mask,
            mask_time_indices=torch.from_numpy(masked),
            sampled_negative_indices=torch.from_numpy(negatives),
        )
        loss = out.loss / int(masked.sum())
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


STEPS = {OURS: Ours, PEER: Theirs}


def peak_of(name: str, case: str, args: argparse.Namespace) -> float:
    """Peak memory of two steps in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, case, "--length", str(args.length)]
    command += ["--threads", str(args.threads)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def rows(case: str, args: argparse.Namespace) -> list[Result]:
    """One case: both in turn, then each one's memory."""
    waveforms = clips(args.length, CASES[case])
    ours = Ours(waveforms)
    name = f"{case}, {' + '.join(f'{len(w) / RATE:.3g}' for w in waveforms)} s"
    with ours.watched():
        found = compare(OP, name, {OURS: ours, PEER: Theirs(waveforms)}, args)
    results = []
    for result in found:
        timing = dataclasses.replace(result.timing, peak_mb=peak_of(result.name, case, args))
        results.append(dataclasses.replace(result, timing=timing))
    spent = [1000.0 * value for value in ours.spent[2:]]  # without the first step, a warm-up
    share = sum(ours.spent[2:]) / sum(ours.total[2:])
    print(f"{case}: quantiser and distractors {100 * share:.2f} % of stk's step")
    part = Timing(statistics.median(spent), min(spent), max(spent), 0.0)
    results.append(Result(OP, name, "of it quantiser, distractors", part))
    return results


def profile(name: str, args: argparse.Namespace) -> None:
    """Where a step spends its time."""
    step: Step = STEPS[name](clips(args.length, CASES["one length"]))
    step()
    with torch.profiler.profile(record_shapes=args.shapes) as profiler:
        step()
    events = profiler.key_averages(group_by_input_shape=args.shapes)
    print(events.table(sort_by="self_cpu_time_total", row_limit=30, max_shapes_column_width=70))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=float, default=5.0, help="seconds of the longest clip")
    parser.add_argument("--profile", choices=tuple(STEPS), help="print where its time goes")
    parser.add_argument("--shapes", action="store_true", help="of the profile's operands")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)


def main() -> None:
    """Measure both cases, or do what an option asks for instead."""
    args = arguments(__doc__, _options)
    if args.peak:
        step: Step = STEPS[args.peak[0]](clips(args.length, CASES[args.peak[1]]))
        print(peak_mb(lambda: (step(), step()), "cpu"))
    elif args.profile:
        profile(args.profile, args)
    else:
        write([row for case in CASES for row in rows(case, args)], args)


if __name__ == "__main__":
    main()
