"""Every element that an operator returns was written by it, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stk.ops import attention, ctc_shrink, fbank, gumbel_vq, gumbel_vq_linear
from tests.ops.cuda_cases import poisoned


def of_fbank(device: str) -> list[Tensor]:
    wave = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)).to(device)
    lengths = torch.tensor([0, 399, 400, 3000], device=device)
    plain = fbank(wave, lengths)
    other = fbank(wave, lengths, snip_edges=False, num_mel_bins=23, cmvn="utterance")
    return [*plain, *other]


def draw(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    return [tensor.requires_grad_() for tensor in drawn]


def of_ctc_shrink(device: str) -> list[Tensor]:
    states, scores = draw(device, (3, 33, 24), (3, 33, 7))
    lengths = torch.tensor([0, 1, 30], device=device)
    results = []
    for reduce in ("first", "mean", "weighted"):
        out = ctc_shrink(states, scores, lengths, reduce=reduce)
        inputs = [states, scores] if reduce == "weighted" else [states]
        results += [*out, *torch.autograd.grad(out.states.square().sum(), inputs)]
    return results


def of_gumbel_vq(device: str) -> list[Tensor]:
    logits, codebook = draw(device, (37, 2, 33), (2, 33, 5))
    results = []
    for training in (True, False):
        out = gumbel_vq(logits, codebook, tau=1.5, training=training, seed=1)
        loss = out.vectors.square().sum() + out.mean_probs.square().sum()
        results += [*out, *torch.autograd.grad(loss, (logits, codebook))]
    return results


def of_gumbel_vq_linear(device: str) -> list[Tensor]:
    tensors = draw(device, (37, 9), (66, 9), (66,), (2, 33, 5))
    out = gumbel_vq_linear(*tensors, tau=1.5, seed=1)
    loss = out.vectors.square().sum() + out.mean_probs.square().sum()
    return [*out, *torch.autograd.grad(loss, tensors)]


def of_attention(device: str) -> list[Tensor]:
    visible = torch.tensor([0, 30, 65], device=device)
    lengths = torch.tensor([33, 0, 17], device=device)
    results = []
    for width, value_width in ((32, 32), (20, 12)):  # whole vectors, and rows that are padded
        tensors = draw(device, (3, 2, 33, width), (3, 2, 65, width), (3, 2, 65, value_width))
        out = attention(*tensors, visible, query_lengths=lengths, dropout_p=0.1, seed=1)
        results += [out, *torch.autograd.grad(out.square().sum(), tensors)]
    return results


RUNS = (of_fbank, of_ctc_shrink, of_gumbel_vq, of_gumbel_vq_linear, of_attention)


def test_the_poison_is_there() -> None:
    with poisoned():
        assert bool(torch.empty(5).isnan().all()) and int(torch.empty(1, dtype=torch.int32)) > 2e9


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("run", RUNS)
def test_every_element_is_written(
    path: str, run: Callable[[str], list[Tensor]], device: str
) -> None:
    clean = run(device)
    with poisoned():
        again = run(device)
    assert all(bool(tensor.isfinite().all()) for tensor in clean)
    # Sums with atomics come in any order on a GPU.
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if device == "cuda" else {"atol": 0.0, "rtol": 0.0}
    for one, two in zip(clean, again, strict=True):
        torch.testing.assert_close(one, two, **tolerance)
