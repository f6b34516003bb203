"""Training speed of the ``xs`` speech Transformer beside Hugging Face's Speech2Text of its size.

    python tests/bench/bench_train.py [--threads 1] [--batches 3] [--dropout 0.3] [--csv FILE]

Both models have the same layers, widths, vocabulary, convolutional subsampler and dropout, see the
same batches in turn (utterances of 2 to 15 s, sorted by length as a data loader sorts them, with
2.5 to 5.5 target tokens a second), and do forward, cross-entropy, backward and a fused Adam step
in fp32 on the CPU. The time over all batches is compared. Hugging Face's model has no label
smoothing; stk's is trained with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import OURS, arguments, compare, write
from peers import speech2text

from stk.data.batch import Padded, Source
from stk.models.registry import build_model
from stk.objectives.base import Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch
from stk.objectives.task import TargetTokens

VOCAB, MELS = 8000, 80
Step = Callable[[SequenceBatch], None]


def make_batches(count: int, max_frames: int, seed: int = 1) -> list[SequenceBatch]:
    """Batches of random utterances, at most ``max_frames`` padded frames each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.exp(torch.empty(1024).uniform_(5.3, 7.3, generator=generator)).long()
    ordered = drawn.sort().values.tolist()
    groups: list[list[int]] = [[]]
    for frames in ordered:
        if (len(groups[-1]) + 1) * frames > max_frames:
            groups.append([])
        groups[-1].append(frames)
    chosen = torch.randperm(len(groups), generator=generator)[:count].tolist()
    return [_batch(groups[i], generator) for i in chosen]


def _batch(frames: list[int], generator: torch.Generator) -> SequenceBatch:
    source = Padded.stack([torch.randn(n, MELS, generator=generator) for n in frames])
    rates = torch.empty(len(frames)).uniform_(2.5, 5.5, generator=generator).tolist()
    counts = [max(2, round(n / 100 * rate)) for n, rate in zip(frames, rates, strict=True)]
    pieces = [torch.randint(5, VOCAB, (n,), generator=generator).tolist() for n in counts]
    inputs = Padded.stack([[2, *ids] for ids in pieces])
    width = inputs.data.shape[1]
    places = [torch.arange(i * width, i * width + len(ids) + 1) for i, ids in enumerate(pieces)]
    labels = torch.tensor([label for ids in pieces for label in (*ids, 3)])
    return SequenceBatch(
        ids=tuple(map(str, range(len(frames)))),
        source=Source(source.data, source.lengths),
        target=TargetTokens(inputs, torch.cat(places), labels),
        sizes={"examples": len(frames), "tokens": len(labels)},
    )


def stk_step(dropout: float) -> Step:
    """A training step of stk's model."""
    keys = {"name": "speech_transformer", "preset": "xs", "dropout": dropout}
    model = build_model(keys, {"tgt": VOCAB}, MELS).train()
    objective = build_objective({"name": "cross_entropy"})
    module = ObjectiveModule(model, {"st": objective})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> None:
        optimizer.zero_grad()
        loss, _ = module("st", batch, Context(), objective.counts(batch))
        loss.backward()
        optimizer.step()

    return step


def transformers_step(dropout: float) -> Step:
    """A training step of Speech2Text."""
    drops = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), dropout)
    model = speech2text(VOCAB, MELS, pad_token_id=1, use_cache=False, **drops).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> None:
        assert batch.target is not None
        optimizer.zero_grad()
        inputs = batch.target.inputs.data
        labels = torch.full((inputs.numel(),), -100)
        labels[batch.target.places] = batch.target.labels
        frames = torch.arange(batch.source.data.shape[1]) < batch.source.lengths[:, None]
        output = model(
            input_features=batch.source.data,
            attention_mask=frames.long(),
            decoder_input_ids=inputs,
            labels=labels.view_as(inputs),
        )
        output.loss.backward()
        optimizer.step()

    return step


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--max-frames", type=int, default=8000, help="padded, of a batch")
    parser.add_argument("--dropout", type=float, default=0.3)


def main() -> None:
    """Run both models over the same batches in turn."""
    args = arguments(__doc__, _options)
    torch.manual_seed(1)
    batches = make_batches(args.batches, args.max_frames)
    peer = "transformers Speech2Text"
    steps = {OURS: stk_step(args.dropout), peer: transformers_step(args.dropout)}

    def over(step: Step) -> Callable[[], None]:
        return lambda: [step(batch) for batch in batches] and None

    utterances = sum(len(batch.ids) for batch in batches)
    case = f"xs, {utterances} utterances in {len(batches)} batches, dropout {args.dropout}"
    results = compare(
        "speech_train", case, {name: over(step) for name, step in steps.items()}, args
    )
    write(results, args)
    for result in results:
        print(f"{result.name}: {utterances / result.timing.median * 1000:.2f} utterances/s")


if __name__ == "__main__":
    main()
