"""Times stk.ops.gumbel_vq beside one-hot codes times the codebook, two ways, in the same run.

    python tests/bench/bench_gumbel_vq.py [--device cpu|cuda] [--threads N] [--csv FILE] [--linear]

G = 2, V = 320, d = 128, fp32, forward + backward with gradients of vectors and mean probabilities;
N = 8,000 on the CPU and 64,000 on a GPU. The first peer broadcasts the one-hot codes against the
codebook and sums, as public wav2vec 2.0 code does; the second multiplies matrices.

``--linear`` measures gumbel_vq_linear alone: K = 102,400, d = 1,024, N = 4,096 (GPU: 32,768 and
bf16); its peak memory is what it takes above inputs and gradients. One CPU core needs a minute or
two.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from harness import Result, Timing, arguments, compare, copy_bandwidth, measure, peak_mb, write
from torch import Tensor
from torch.nn.functional import gumbel_softmax

from stk.ops import gumbel_vq, gumbel_vq_linear

GROUPS, CODES, WIDTH = 2, 320, 128


def broadcast(logits: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """(N, G*V, 1) times (1, G*V, d), summed over the codes of a group."""
    rows = logits.shape[0]
    hard = gumbel_softmax(logits.view(rows * GROUPS, CODES), tau=2.0, hard=True)
    product = hard.view(rows, -1, 1) * codebook.view(1, GROUPS * CODES, WIDTH)
    vectors = product.view(rows, GROUPS, CODES, WIDTH).sum(-2).view(rows, -1)
    return vectors, logits.softmax(-1).mean(0)


def matrices(logits: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """One matrix product per group."""
    rows = logits.shape[0]
    hard = gumbel_softmax(logits.view(rows * GROUPS, CODES), tau=2.0, hard=True)
    hard = hard.view(rows, GROUPS, CODES).transpose(0, 1)
    vectors = torch.bmm(hard, codebook).transpose(0, 1).reshape(rows, -1)
    return vectors, logits.softmax(-1).mean(0)


def fused(logits: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    out = gumbel_vq(logits, codebook, tau=2.0)
    return out.vectors, out.mean_probs


def rows_from_logits(args: argparse.Namespace) -> list[Result]:
    count = 64_000 if args.device == "cuda" else 8_000
    logits = torch.randn(count, GROUPS, CODES, device=args.device, requires_grad=True)
    codebook = torch.randn(GROUPS, CODES, WIDTH, device=args.device, requires_grad=True)
    grads = (
        torch.randn(count, GROUPS * WIDTH, device=args.device),
        torch.randn(GROUPS, CODES, device=args.device),
    )

    def step(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(logits, codebook), (logits, codebook), grads)

    case = f"N {count:,}, forward + backward"
    functions = {"stk": step(fused), "one-hot, matrix product": step(matrices)}
    result = compare("gumbel_vq", case, functions, args)
    # The broadcast takes seconds and gigabytes on a CPU: its own, shorter round.
    slow = argparse.Namespace(**{**vars(args), "repeats": 5})
    pair = {"stk": step(fused), "one-hot, broadcast": step(broadcast)}
    result += compare("gumbel_vq", f"{case} (broadcast)", pair, slow)
    with torch.no_grad():
        forward = measure({"forward": lambda: fused(logits, codebook)}, args)["forward"]
    result.append(Result("gumbel_vq", f"N {count:,}, forward", "stk", forward))
    if args.device == "cuda":
        # Forward: logits in, vectors out. Backward: logits and the vectors' gradient in, the
        # logits' gradient out.
        moved = 3 * logits.nbytes + 2 * grads[0].nbytes
        bound = moved / copy_bandwidth() * 1000.0
        ours = result[0].timing.median
        print(f"gumbel_vq: bandwidth bound {bound:.4f} ms, {bound / ours:.0%} of the time")
    return result


def rows_linear(args: argparse.Namespace) -> list[Result]:
    cuda = args.device == "cuda"
    codes, width, count = 102_400, 1024, 32_768 if cuda else 4_096
    dtype = torch.bfloat16 if cuda else torch.float32
    make = {"device": args.device, "dtype": dtype}
    hidden = torch.randn(count, width, **make).requires_grad_()
    weight = (torch.randn(codes, width, **make) * width**-0.5).requires_grad_()
    bias = torch.zeros(codes, **make).requires_grad_()
    codebook = torch.randn(1, codes, width, **make).requires_grad_()
    tensors = (hidden, weight, bias, codebook)
    grad = torch.randn(count, width, **make)

    def step() -> None:
        for tensor in tensors:
            tensor.grad = None
        out = gumbel_vq_linear(*tensors, tau=2.0)
        ((out.vectors * grad).sum() + out.mean_probs.square().sum()).backward()

    def timed() -> float:
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) * 1000.0

    times: list[float] = []
    peak = peak_mb(lambda: times.append(timed()), args.device)
    gradients = sum(tensor.nbytes for tensor in tensors) / 1e6
    if cuda:
        times = [timed() for _ in range(5)]  # the first call was the warm-up
    times.sort()
    timing = Timing(times[len(times) // 2], times[0], times[-1], max(0.0, peak - gradients))
    print(
        f"gumbel_vq_linear: peak {peak:,.0f} MB above inputs, of which {gradients:,.0f} MB are "
        f"gradients: {peak - gradients:,.0f} MB extra"
    )
    case = f"K {codes:,}, d {width:,}, N {count:,}, forward + backward"
    result = [Result("gumbel_vq_linear", case, "stk", timing)]
    if cuda:
        # Logits forward and again backward; gradients of the choice, of hidden and of weight.
        product = {"product": lambda: hidden.detach() @ weight.detach().t()}
        single = measure(product, args)["product"].median
        ratio = timing.median / (5 * single)
        print(
            f"gumbel_vq_linear: {ratio:.2f} times its five matrix products ({single:.2f} ms each)"
        )
    return result


if __name__ == "__main__":
    linear = "--linear" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--linear"]
    parsed = arguments(__doc__)
    results = rows_linear(parsed) if linear else rows_from_logits(parsed)
    if parsed.device == "cuda" and not linear:
        results += rows_linear(parsed)
    write(results, parsed)
