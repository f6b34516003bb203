"""Beam search with the ``xs`` speech Transformer beside Hugging Face's Speech2Text of its size.

    python tests/bench/bench_decode.py [--threads 1] [--batches 4] [--beam 5] [--steps 40]

Both models have the same layers, widths, vocabulary and convolutional subsampler and random
weights, get the same batches of features in turn (utterances of 2 to 15 s, sorted by length), and
search in fp32 with the same beam for the same forced number of decoding steps: no hypothesis may
end before the last one. Wall time and CPU time (which other processes disturb less) are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers import speech2text

from stk.config.run import DecodeConfig
from stk.data.batch import Padded, Source
from stk.decoding.beam import Symbols, beam_search
from stk.decoding.scorers import ModelScorer
from stk.models.registry import build_model

VOCAB, MELS = 8000, 80
Search = Callable[[Source], int]


def make_batches(count: int, size: int, seed: int = 1) -> Iterator[Source]:
    """Batches of ``size`` utterances of like lengths."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.exp(torch.empty(count * size * 8).uniform_(5.3, 7.3, generator=generator)).long()
    ordered = drawn.sort().values.view(-1, size)
    for index in torch.randperm(len(ordered), generator=generator)[:count].tolist():
        rows = [torch.randn(n, MELS, generator=generator) for n in ordered[index].tolist()]
        padded = Padded.stack(rows)
        yield Source(padded.data, padded.lengths)


def stk_search(beam: int, steps: int) -> tuple[Search, int]:
    """stk's search, and the number of its model's parameters."""
    keys = {"name": "speech_transformer", "preset": "xs"}
    model: Any = build_model(keys, {"tgt": VOCAB}, MELS).eval()
    # The end symbol is the last of the steps.
    config = DecodeConfig(beam=beam, min_length=steps - 1, max_length=steps)

    @torch.inference_mode()
    def search(source: Source) -> int:
        found = beam_search(
            ModelScorer(model, model.encode(source)),
            prefixes=[()] * len(source.lengths),
            limits=torch.full_like(source.lengths, steps - 1),
            config=config,
            symbols=Symbols(),
        )
        return sum(len(hypotheses[0].tokens) + 1 for hypotheses in found)

    return search, sum(p.numel() for p in model.parameters())


def transformers_search(beam: int, steps: int) -> tuple[Search, int]:
    """Speech2Text's ``generate``, and the number of its parameters."""
    model = speech2text(VOCAB, MELS, pad_token_id=0).eval()

    @torch.inference_mode()
    def search(source: Source) -> int:
        frames = torch.arange(source.data.shape[1]) < source.lengths[:, None]
        written = model.generate(
            source.data,
            attention_mask=frames.long(),
            num_beams=beam,
            do_sample=False,
            min_new_tokens=steps,
            max_new_tokens=steps,
        )
        return len(written) * (written.shape[1] - 1)

    return search, sum(p.numel() for p in model.parameters())


def main() -> None:
    """Run both searches over the same batches in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    makers = {"stk": stk_search, "transformers": transformers_search}
    built = {name: make(options.beam, options.steps) for name, make in makers.items()}
    spent = {name: [0.0, 0.0, 0] for name in makers}
    first, *batches = make_batches(options.batches + 1, options.size)
    for search, _ in built.values():  # the first batch warms both up
        search(first)
    for number, source in enumerate(batches):
        for name in list(makers) if number % 2 else list(makers)[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            steps = built[name][0](source)
            spent[name][0] += time.perf_counter() - wall
            spent[name][1] += time.process_time() - cpu
            spent[name][2] += steps
    _report(options, batches, {name: size for name, (_, size) in built.items()}, spent)


def _report(
    options: argparse.Namespace,
    batches: list[Source],
    sizes: dict[str, int],
    spent: dict[str, list[float]],
) -> None:
    utterances = sum(len(source.lengths) for source in batches)
    sound = sum(int(source.lengths.sum()) for source in batches) / 100
    steps = {name: int(values[2]) for name, values in spent.items()}
    assert len(set(steps.values())) == 1, f"decoding steps differ: {steps}"
    print(
        f"{utterances} utterances ({sound:.0f} s) in {len(batches)} batches of {options.size}, "
        f"beam {options.beam}, {options.steps} steps each, {options.threads} thread(s), "
        f"torch {torch.__version__}"
    )
    for name, (wall, cpu, _) in spent.items():
        print(
            f"{name:>13}: {utterances / wall:6.2f} utterances/s, real-time factor "
            f"{wall / sound:.4f} (CPU time: {utterances / cpu:6.2f}, {cpu / sound:.4f}), "
            f"{sizes[name] / 1e6:.2f}M parameters"
        )
    ours, theirs = spent["stk"], spent["transformers"]
    print(f"ratio: {theirs[0] / ours[0]:.2f}x wall, {theirs[1] / ours[1]:.2f}x CPU")


if __name__ == "__main__":
    main()
