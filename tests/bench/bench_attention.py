"""Times stk.ops.attention beside torch's scaled_dot_product_attention, same run.

    python tests/bench/bench_attention.py [--device cpu|cuda] [--threads N] [--csv FILE]

B 8, H 8, T 1000, d 64, lengths evenly 300 to 1000, forward and backward; fp32 on the CPU,
bf16 on a GPU. The peer has a boolean key-padding mask; at full length on a GPU it is torch's flash
attention without a mask. Beside these: shapes of small training runs and of decoding steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import Result, arguments, compare, write
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from stk.ops import attention

Functions = dict[str, Callable[[], object]]
HEADS, WIDTH = 8, 64


class Case:
    """Inputs of one shape, the heads lying in memory as a Transformer block splits them."""

    def __init__(self, sizes: tuple[int, int, int, int, int], device: str) -> None:
        batch, heads, queries, keys, width = sizes
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        generator = torch.Generator().manual_seed(0)

        def draw(count: int) -> Tensor:
            flat = torch.randn(batch, count, heads, width, generator=generator).to(device, dtype)
            return flat.transpose(1, 2)

        self.query = draw(queries).requires_grad_()
        self.key, self.value = draw(keys).requires_grad_(), draw(keys).requires_grad_()
        self.grad = draw(queries)

    def plain(self, visible: Tensor | None) -> Callable[[], object]:
        """Torch's own attention, the mask made beforehand, forward and backward."""
        mask = None
        if visible is not None:
            prefix = visible[:, None] if visible.dim() == 1 else visible
            keys = torch.arange(self.key.shape[2], device=visible.device)
            mask = (keys < prefix[:, None, :, None]).contiguous()
        return lambda: F.scaled_dot_product_attention(
            self.query, self.key, self.value, attn_mask=mask
        ).backward(self.grad)

    def ours(self, visible: Tensor | None, lengths: Tensor | None) -> Callable[[], object]:
        return lambda: attention(
            self.query, self.key, self.value, visible, query_lengths=lengths
        ).backward(self.grad)


def padded(args: argparse.Namespace) -> list[Result]:
    """The case that the documentation's table gives."""
    lengths = torch.arange(300, 1001, 100, device=args.device)
    case = Case((8, HEADS, 1000, 1000, WIDTH), args.device)
    name = "B8 H8 T1000 d64, lengths 300 to 1000"
    peer = case.plain(lengths)
    seen: Functions = {"stk": case.ours(lengths, None), "sdpa": peer}
    both: Functions = {"stk": case.ours(lengths, lengths), "sdpa": peer}
    return compare("attention, visible", name, seen, args) + compare(
        "attention, query_lengths", name, both, args
    )


def full_length(args: argparse.Namespace) -> list[Result]:
    """Nothing hidden, beside flash attention."""
    results = []
    for length in (1000, 4096):
        case = Case((8, HEADS, length, length, WIDTH), args.device)
        plain = case.plain(None)

        def flash(run: Callable[[], object] = plain) -> None:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                run()

        functions: Functions = {"stk": case.ours(None, None), "flash": flash}
        results += compare("attention, full length", f"B8 H8 T{length} d64", functions, args)
    return results


def small(args: argparse.Namespace) -> list[Result]:
    """What training on few cores meets: short rows, padded or causal."""
    results = []
    for batch, count, width in ((64, 20, 64), (32, 50, 32), (16, 100, 64), (8, 300, 64)):
        case = Case((batch, 4, count, count, width), args.device)
        lengths = torch.linspace(count // 2, count, batch, device=args.device).long()
        causal = torch.arange(1, count + 1, device=args.device)[None]
        for rule, visible in (("padded", lengths), ("causal", causal)):
            functions: Functions = {"stk": case.ours(visible, lengths), "sdpa": case.plain(visible)}
            name = f"B{batch} H4 T{count} d{width}, {rule}"
            results += compare("attention, small", name, functions, args)
    return results


@torch.no_grad()
def decoding(args: argparse.Namespace) -> list[Result]:
    """One query per row, forward alone; each call of the two is 20 steps."""
    results = []
    for batch, keys in ((1, 20), (5, 50), (40, 50), (40, 200), (40, 400)):
        case = Case((batch, 4, 1, keys, WIDTH), args.device)
        lengths = torch.linspace(keys // 2, keys, batch, device=args.device).long()
        mask = (torch.arange(keys, device=args.device) < lengths[:, None])[:, None, None]

        def ours(case: Case = case, lengths: Tensor = lengths) -> None:
            for _ in range(20):
                attention(case.query, case.key, case.value, lengths)

        def peer(case: Case = case, mask: Tensor = mask) -> None:
            for _ in range(20):
                F.scaled_dot_product_attention(case.query, case.key, case.value, attn_mask=mask)

        functions: Functions = {"stk": ours, "sdpa": peer}
        results += compare("attention, decoding", f"B{batch} H4 Tk{keys} d64", functions, args)
    return results


if __name__ == "__main__":
    parsed = arguments(__doc__)
    rows = padded(parsed) + small(parsed) + decoding(parsed)
    if parsed.device == "cuda":
        rows += full_length(parsed)
    write(rows, parsed)
