"""Beam search with the base text Transformer beside Hugging Face's Marian of its size.

    python tests/bench/bench_mt_decode.py [--threads 1] [--beam 5] [--steps 30] [--csv FILE]

Both models have the same layers, widths and vocabulary and random weights, get the same batches of
sentences in turn (4 to 60 tokens, those of like length together), and search in fp32 with the same
beam for the same forced number of steps: no hypothesis may end before the last one. One call
decodes every batch; written target tokens per second are printed below the times.

What bounds the ratio: on one thread four fifths of stk's time are matrix products (torch.profiler),
half of them the output layer's, and both libraries hand them to the same BLAS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from harness import OURS, arguments, compare, write
from peers import MT_VOCAB, marian

from stk.config.run import DecodeConfig
from stk.data.batch import Padded, Source
from stk.decoding.beam import Symbols, beam_search
from stk.decoding.scorers import ModelScorer
from stk.models.registry import build_model

Search = Callable[[Source], int]


def make_batches(count: int, size: int, seed: int = 1) -> list[Source]:
    """Batches of ``size`` sentences of like lengths."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.exp(torch.empty(count * size * 8).normal_(3.0, 0.6, generator=generator))
    ordered = drawn.clamp(4, 60).long().sort().values.view(-1, size)
    batches = []
    for index in torch.randperm(len(ordered), generator=generator)[:count].tolist():
        rows = [
            [*torch.randint(5, MT_VOCAB, (length - 1,), generator=generator).tolist(), 3]
            for length in ordered[index].tolist()
        ]
        padded = Padded.stack(rows)
        batches.append(Source(padded.data, padded.lengths))
    return batches


def stk_search(beam: int, steps: int) -> Search:
    """stk's search; gives the number of tokens written."""
    keys = {"name": "text_transformer", "preset": "base", "tie": "all"}
    model: Any = build_model(keys, {"src": MT_VOCAB, "tgt": MT_VOCAB}).eval()
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

    return search


def transformers_search(beam: int, steps: int) -> Search:
    """Marian's ``generate``; gives the number of tokens written."""
    model = marian().eval()
    model.generation_config.bad_words_ids = [[0], [2]]  # what stk's search never writes either

    @torch.inference_mode()
    def search(source: Source) -> int:
        real = torch.arange(source.data.shape[1]) < source.lengths[:, None]
        written = model.generate(
            source.data,
            attention_mask=real.long(),
            num_beams=beam,
            do_sample=False,
            min_new_tokens=steps,
            max_new_tokens=steps,
        )
        return len(written) * (written.shape[1] - 1)

    return search


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--size", type=int, default=16, help="sentences of a batch")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)


def main() -> None:
    """Run both searches over the same batches in turn."""
    args = arguments(__doc__, _options)
    torch.manual_seed(1)
    batches = make_batches(args.batches, args.size)
    makers = {OURS: stk_search, "transformers Marian": transformers_search}
    searches = {name: make(args.beam, args.steps) for name, make in makers.items()}
    written: dict[str, int] = {}

    def over(name: str) -> Callable[[], None]:
        def call() -> None:
            written[name] = sum(searches[name](source) for source in batches)

        return call

    case = f"base, {args.batches} x {args.size} sentences, beam {args.beam}, {args.steps} steps"
    results = compare("mt_decode", case, {name: over(name) for name in searches}, args)
    assert len(set(written.values())) == 1, f"decoding steps differ: {written}"
    write(results, args)
    for result in results:
        speed = written[result.name] / result.timing.median * 1000
        print(f"{result.name}: {speed:.1f} target tokens/s")


if __name__ == "__main__":
    main()
