"""Training speed of the base text Transformer beside Hugging Face's Marian of its size.

    python tests/bench/bench_mt_train.py [--threads 1] [--batches 3] [--batching lengths|random]
        [--dropout 0.1] [--csv FILE]

Both models (Vaswani et al., 2017: 6 + 6 layers, 512/2048, 8 heads, one matrix for both embeddings
and the output) have the same vocabulary and dropout, see the same batches in turn, and do forward,
cross-entropy, backward and a fused Adam step in fp32. stk's loss smooths its labels, Marian's does
not. Batches are those of stk's loader, sentences of like length together, or sentences at random,
as in the Trainer of transformers unless it is told otherwise; stk computes nothing for padding, so
that the two cases differ. One call is a step on every batch; target tokens per second are printed
below the times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from harness import OURS, arguments, compare, write
from peers import MT_VOCAB, marian

from stk.config.run import BatchConfig
from stk.data.batch import Padded, Source
from stk.data.batching import BatchPlan, Costs, cut
from stk.models.registry import build_model
from stk.objectives.base import Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch
from stk.objectives.task import TargetTokens

Step = Callable[[SequenceBatch], None]


def make_batches(count: int, max_tokens: int, batching: str) -> list[SequenceBatch]:
    """Batches of at most ``max_tokens`` padded tokens on the longer side: as stk's loader cuts them
    (``lengths``), or of sentences one after another (``random``).

    Lengths are log-normal, and so are their ratios, with the deviation of 0.17 that English and
    German Bible verses have.
    """
    draw = np.random.default_rng(1)
    source = np.exp(draw.normal(3.1, 0.5, 4096)).clip(4, 120)
    target = (source * np.exp(draw.normal(0.0, 0.17, 4096))).clip(3, 120).astype(int)
    source = source.astype(int)
    tokens = np.maximum(source, target + 1).astype(np.int32)
    costs = Costs(np.zeros_like(tokens), tokens, np.zeros_like(tokens))
    bound = BatchConfig(max_tokens=max_tokens)
    if batching == "lengths":
        batches = BatchPlan(costs, bound, seed=1, stream="mt").epoch(0).batches
    else:  # the rows are drawn, so their order is a random one
        batches = cut(np.arange(len(tokens)), costs, bound)
    generator = torch.Generator().manual_seed(1)
    return [
        _batch([(int(source[i]), int(target[i])) for i in rows], generator)
        for rows in batches[:count]
    ]


def _batch(pairs: list[tuple[int, int]], generator: torch.Generator) -> SequenceBatch:
    def draw(count: int) -> list[int]:
        return torch.randint(5, MT_VOCAB, (count,), generator=generator).tolist()

    source = Padded.stack([[*draw(count - 1), 3] for count, _ in pairs])
    pieces = [draw(count) for _, count in pairs]
    inputs = Padded.stack([[2, *ids] for ids in pieces])
    width = inputs.data.shape[1]
    places = [torch.arange(i * width, i * width + len(ids) + 1) for i, ids in enumerate(pieces)]
    labels = torch.tensor([label for ids in pieces for label in (*ids, 3)])
    return SequenceBatch(
        ids=tuple(map(str, range(len(pairs)))),
        source=Source(source.data, source.lengths),
        target=TargetTokens(inputs, torch.cat(places), labels),
        sizes={"examples": len(pairs), "tokens": len(labels)},
    )


def stk_step(dropout: float) -> Step:
    """A training step of stk's model."""
    keys = {"name": "text_transformer", "preset": "base", "tie": "all", "dropout": dropout}
    model = build_model(keys, {"src": MT_VOCAB, "tgt": MT_VOCAB}).train()
    objective = build_objective({"name": "cross_entropy", "source": "src_text"})
    module = ObjectiveModule(model, {"mt": objective})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> None:
        optimizer.zero_grad()
        loss, _ = module("mt", batch, Context(), objective.counts(batch))
        loss.backward()
        optimizer.step()

    return step


def transformers_step(dropout: float) -> Step:
    """A training step of Marian."""
    model = marian(dropout=dropout, attention_dropout=0.0, activation_dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> None:
        assert batch.target is not None
        optimizer.zero_grad()
        inputs, source = batch.target.inputs.data, batch.source
        labels = torch.full((inputs.numel(),), -100)
        labels[batch.target.places] = batch.target.labels
        real = torch.arange(source.data.shape[1]) < source.lengths[:, None]
        output = model(
            input_ids=source.data,
            attention_mask=real.long(),
            decoder_input_ids=inputs,
            labels=labels.view_as(inputs),
            use_cache=False,
        )
        output.loss.backward()
        optimizer.step()

    return step


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=1024, help="padded, on either side")
    parser.add_argument("--batching", choices=("lengths", "random"), default="lengths")
    parser.add_argument("--dropout", type=float, default=0.1)


def main() -> None:
    """Run both models over the same batches in turn."""
    args = arguments(__doc__, _options)
    torch.manual_seed(1)
    batches = make_batches(args.batches, args.max_tokens, args.batching)
    steps = {OURS: stk_step(args.dropout), "transformers Marian": transformers_step(args.dropout)}
    tokens = sum(len(batch.target.labels) for batch in batches if batch.target is not None)

    def over(step: Step) -> Callable[[], None]:
        return lambda: [step(batch) for batch in batches] and None

    padded = sum(batch.target.inputs.data.numel() for batch in batches if batch.target is not None)
    share = f"{1 - tokens / padded:.0%} padding"
    op = "mt_train" if args.batching == "lengths" else "mt_train, sentences at random"
    case = f"base, {tokens:,} target tokens, {share}, dropout {args.dropout}"
    results = compare(op, case, {name: over(step) for name, step in steps.items()}, args)
    write(results, args)
    for result in results:
        print(f"{result.name}: {tokens / result.timing.median * 1000:.1f} target tokens/s")


if __name__ == "__main__":
    main()
