"""Every operator once, forward and backward, on small shapes: what a memory checker is run on.

compute-sanitizer --tool memcheck python tests/small_shapes.py [cpu|cuda]
"""

from __future__ import annotations

import sys

import torch

from stk.ops import attention, ctc_shrink, fbank, gumbel_vq, gumbel_vq_linear


def run_fbank(device: str) -> None:
    lengths = torch.tensor([0, 399, 400, 3000], device=device)
    for dtype in (torch.float32, torch.int16):
        waves = (torch.randn(4, 3000, device=device) * 1000).to(dtype)
        fbank(waves, lengths, cmvn="utterance", dither=1.0)
        fbank(waves, lengths, snip_edges=False, num_mel_bins=81)
    fbank(waves, lengths, sample_rate=48000, frame_length=30.0)


def run_ctc_shrink(device: str) -> None:
    lengths = torch.tensor([0, 1, 33], device=device)
    for reduce in ("first", "mean", "weighted"):
        for blanks in ("drop", "merge"):
            states = torch.randn(3, 33, 24, device=device, requires_grad=True)
            scores = torch.randn(3, 33, 7, device=device, requires_grad=True)
            shrunk = ctc_shrink(states, scores, lengths, reduce=reduce, blanks=blanks)
            shrunk.states.square().sum().backward()


def run_gumbel_vq(device: str) -> None:
    codebook = torch.randn(2, 33, 16, device=device, requires_grad=True)
    logits = torch.randn(37, 2, 33, device=device, requires_grad=True)
    output = gumbel_vq(logits, codebook, tau=1.5)
    (output.vectors.square().sum() + output.mean_probs.square().sum()).backward()
    hidden = torch.randn(37, 24, device=device, requires_grad=True)
    weight = torch.randn(66, 24, device=device, requires_grad=True)
    bias = torch.randn(66, device=device, requires_grad=True)
    output = gumbel_vq_linear(hidden, weight, bias, codebook, tau=1.5)
    (output.vectors.square().sum() + output.mean_probs.square().sum()).backward()


def run_attention(device: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        query, key, value = (
            torch.randn(2, 2, n, 64, device=device, dtype=dtype, requires_grad=True)
            for n in (33, 65, 65)
        )
        visible = torch.tensor([0, 65], device=device)
        lengths = torch.tensor([33, 17], device=device)
        for seen in (None, visible, torch.arange(1, 34, device=device)[None]):
            output = attention(query, key, value, seen, query_lengths=lengths, dropout_p=0.1)
            output.float().square().sum().backward()


def main(device: str) -> None:
    """Run all four; CUDA errors surface at the end at the latest."""
    torch.manual_seed(0)
    for run in (run_fbank, run_ctc_shrink, run_gumbel_vq, run_attention):
        run(device)
        print(f"{run.__name__.removeprefix('run_')}: done", flush=True)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cuda")
