"""Times stk.ops.ctc_shrink beside the loop of public speech-translation code, in the same run.

    python tests/bench/bench_ctc_shrink.py [--device cpu|cuda] [--threads N] [--csv FILE]

B = 16, T = 800, V = 1,000, D = 256, fp32, from scores; the peer takes softmax and arg-max, groups
equal labels in Python and averages the frames of every group. Scores are peaky, as a trained CTC
layer gives them: about an eighth of the frames carry a label, the others are blank.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import groupby

import torch
from harness import Result, arguments, compare, copy_bandwidth, measure, write
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from stk.ops import ctc_shrink

BATCH, FRAMES, LABELS, WIDTH = 16, 800, 1000, 256


def by_loop(states: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Average over groups of equal labels, blanks left out, clip by clip."""
    predictions = scores.softmax(-1).argmax(-1).tolist()
    clips = []
    for clip, length in enumerate(lengths.tolist()):
        rows, start = [], 0
        for label, group in groupby(predictions[clip][:length]):
            count = len(list(group))
            if label != 0:
                rows.append(states[clip, start : start + count].mean(0))
            start += count
        clips.append(torch.stack(rows))
    return pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips])


def inputs(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(1, LABELS, (BATCH, FRAMES), generator=generator)
    labels[torch.rand(BATCH, FRAMES, generator=generator) > 0.125] = 0
    scores = torch.randn(BATCH, FRAMES, LABELS, generator=generator)
    scores += 10.0 * torch.nn.functional.one_hot(labels, LABELS)
    states = torch.randn(BATCH, FRAMES, WIDTH, generator=generator)
    lengths = torch.full((BATCH,), FRAMES)
    return tuple(tensor.to(device) for tensor in (states, scores, labels, lengths))


def rows(args: argparse.Namespace) -> list[Result]:
    states, scores, labels, lengths = inputs(args.device)
    wanted, counts = by_loop(states, scores, lengths)
    got = ctc_shrink(states, scores, lengths)
    torch.testing.assert_close(got.states[:, : wanted.shape[1]], wanted)
    assert got.lengths.tolist() == counts.tolist()
    forward: dict[str, Callable[[], object]] = {
        "stk": lambda: ctc_shrink(states, scores, lengths),
        "softmax, groupby loop": lambda: by_loop(states, scores, lengths),
    }
    result = compare("ctc_shrink", "mean, forward", forward, args)

    leaf, weights = states.clone().requires_grad_(), scores.clone().requires_grad_()
    grad = torch.randn_like(states)

    def backward(function: Callable[..., tuple], **options: str) -> object:
        out = function(leaf, scores, lengths, **options)[0]
        return torch.autograd.grad(out, leaf, grad[:, : out.shape[1]])

    both: dict[str, Callable[[], object]] = {
        "stk": lambda: backward(ctc_shrink),
        "softmax, groupby loop": lambda: backward(by_loop),
    }
    result += compare("ctc_shrink", "mean, forward + backward", both, args)

    def weighted() -> object:
        out = ctc_shrink(leaf, weights, lengths, reduce="weighted").states
        return torch.autograd.grad(out, (leaf, weights), grad)

    variants: dict[str, Callable[[], object]] = {
        "labels given, forward": lambda: ctc_shrink(states, labels, lengths),
        "weighted, forward": lambda: ctc_shrink(states, scores, lengths, reduce="weighted"),
        "weighted, forward + backward": weighted,
        "scores read once (sum)": lambda: scores.sum(),
    }
    for name, timing in measure(variants, args).items():
        result.append(Result("ctc_shrink", name, "torch" if "sum" in name else "stk", timing))
    if args.device == "cuda":
        moved = scores.nbytes + states.nbytes * (1 + int(counts.sum()) / (BATCH * FRAMES))
        bound = moved / copy_bandwidth() * 1000.0
        ours = result[0].timing.median
        print(f"ctc_shrink: bandwidth bound {bound:.4f} ms, {bound / ours:.0%} of the time")
    return result


if __name__ == "__main__":
    parsed = arguments(__doc__)
    write(rows(parsed), parsed)
