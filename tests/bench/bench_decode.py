"""Beam search with the ``xs`` speech Transformer beside Hugging Face's Speech2Text of its size.

    python tests/bench/bench_decode.py [--threads 1] [--batches 4] [--beam 5] [--steps 40]
        [--csv FILE]

Both models have the same layers, widths, vocabulary and convolutional subsampler and random
weights, get the same batches of features in turn (utterances of 2 to 15 s, sorted by length), and
search in fp32 with the same beam for the same forced number of decoding steps: no hypothesis may
end before the last one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import OURS, arguments, compare, write
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


def stk_search(beam: int, steps: int) -> Search:
    """stk's search: batch -> steps made."""
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

    return search


def transformers_search(beam: int, steps: int) -> Search:
    """Speech2Text's ``generate``: batch -> steps made."""
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

    return search


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--size", type=int, default=8, help="utterances of a batch")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)


def main() -> None:
    """Run both searches over the same batches in turn."""
    args = arguments(__doc__, _options)
    torch.manual_seed(1)
    makers = {OURS: stk_search, "transformers Speech2Text": transformers_search}
    searches = {name: make(args.beam, args.steps) for name, make in makers.items()}
    batches = list(make_batches(args.batches, args.size))
    made = {name: sum(map(search, batches)) for name, search in searches.items()}
    assert len(set(made.values())) == 1, f"decoding steps differ: {made}"

    def over(search: Search) -> Callable[[], int]:
        return lambda: sum(map(search, batches))

    case = f"xs, {args.batches} x {args.size} utterances, beam {args.beam}, {args.steps} steps"
    named = {name: over(search) for name, search in searches.items()}
    results = compare("speech_decode", case, named, args)
    write(results, args)
    sound = sum(int(source.lengths.sum()) for source in batches) / 100
    for result in results:
        seconds = result.timing.median / 1000
        rate = args.batches * args.size / seconds
        print(f"{result.name}: {rate:.2f} utterances/s, real-time factor {seconds / sound:.4f}")


if __name__ == "__main__":
    main()
