"""Training speed of the ``xs`` speech Transformer beside Hugging Face's Speech2Text of its size.

    python tests/bench/bench_train.py [--threads 1] [--batches 12] [--dropout 0.3]

Both models have the same layers, widths, vocabulary, convolutional subsampler and dropout, see the
same batches in turn (utterances of 2 to 15 s, sorted by length as a data loader sorts them, with
2.5 to 5.5 target tokens a second), and do forward, cross-entropy, backward and a fused Adam step
in fp32 on the CPU. The sum of both models' time over all batches is compared, in wall time and in
CPU time (which other processes on the machine disturb less). Hugging Face's model has no label
smoothing; stk's is trained with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from peers import speech2text

from stk.data.batch import Padded, Source
from stk.models.registry import build_model
from stk.objectives.base import Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective
from stk.objectives.sequence import SequenceBatch
from stk.objectives.task import TargetTokens

VOCAB, MELS = 8000, 80


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


def stk_step(dropout: float) -> Callable[[SequenceBatch], float]:
    """A training step of stk's model: batch -> loss per token."""
    keys = {"name": "speech_transformer", "preset": "xs", "dropout": dropout}
    model = build_model(keys, {"tgt": VOCAB}, MELS).train()
    objective = build_objective({"name": "cross_entropy"})
    module = ObjectiveModule(model, {"st": objective})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> float:
        optimizer.zero_grad()
        loss, _ = module("st", batch, Context(), objective.counts(batch))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    step.parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
    return step


def transformers_step(dropout: float) -> Callable[[SequenceBatch], float]:
    """A training step of Speech2Text: batch -> loss per token."""
    drops = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), dropout)
    model = speech2text(VOCAB, MELS, pad_token_id=1, use_cache=False, **drops).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(batch: SequenceBatch) -> float:
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
        return float(output.loss.detach())

    step.parameters = sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]
    return step


def main() -> None:
    """Run both models over the same batches in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--max-frames", type=int, default=8000)
    parser.add_argument("--dropout", type=float, default=0.3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    batches = make_batches(options.batches + 1, options.max_frames)
    steps = {"stk": stk_step(options.dropout), "transformers": transformers_step(options.dropout)}
    spent = {name: [0.0, 0.0] for name in steps}
    for step in steps.values():  # the first batch warms both up
        step(batches[0])
    for number, batch in enumerate(batches[1:]):
        order = list(steps) if number % 2 else list(steps)[::-1]
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            steps[name](batch)
            spent[name][0] += time.perf_counter() - wall
            spent[name][1] += time.process_time() - cpu
    _report(options, batches[1:], steps, spent)


def _report(
    options: argparse.Namespace,
    batches: list[SequenceBatch],
    steps: dict[str, Callable[[SequenceBatch], float]],
    spent: dict[str, list[float]],
) -> None:
    utterances = sum(len(batch.ids) for batch in batches)
    real = sum(int(batch.source.lengths.sum()) for batch in batches)
    padded = sum(batch.source.data.shape[0] * batch.source.data.shape[1] for batch in batches)
    print(
        f"{utterances} utterances in {len(batches)} batches, {1 - real / padded:.1%} padding, "
        f"{options.threads} thread(s), dropout {options.dropout}, torch {torch.__version__}"
    )
    for name, (wall, cpu) in spent.items():
        count = steps[name].parameters / 1e6  # type: ignore[attr-defined]
        print(
            f"{name:>13}: {utterances / wall:6.2f} utterances/s of wall time, "
            f"{utterances / cpu:6.2f} of CPU time ({count:.2f}M parameters)"
        )
    ours, theirs = spent["stk"], spent["transformers"]
    print(f"ratio: {theirs[0] / ours[0]:.2f}x wall, {theirs[1] / ours[1]:.2f}x CPU")


if __name__ == "__main__":
    main()
