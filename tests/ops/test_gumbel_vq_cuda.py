"""gumbel_vq and gumbel_vq_linear on CUDA: parity with the fp64 reference, streams, graphs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stk.ops import gumbel_vq, gumbel_vq_linear
from stk.ops.reference.gumbel_vq import gumbel_noise, gumbel_vq_reference
from tests.ops.cuda_cases import fresh_seed, no_waiting, poisoned
from tests.ops.gumbel_vq_cases import SEEDS, scalars

pytestmark = pytest.mark.cuda

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# How far the noise in fp32, made with the fast logarithm, may be from that in fp64.
NOISE = 2e-5


def assert_chosen(codes: Tensor, logits: Tensor, training: bool) -> None:
    """Codes of the largest noisy logits: any of those that lie within the noise's rounding."""
    noisy = logits.detach().double()
    if not training:
        assert torch.equal(codes, noisy.argmax(-1))
        return
    seed, offset = (torch.tensor(SEEDS[name]).cuda() for name in ("seed", "offset"))
    noisy = noisy + gumbel_noise(tuple(noisy.shape), seed, offset, noisy.device)
    chosen = noisy.gather(-1, codes[..., None])[..., 0]
    assert bool((chosen >= noisy.amax(-1) - NOISE).all())


def rows_of(codes: Tensor, table: Tensor) -> Tensor:
    """(N, G * d): the chosen rows of a (G, V, d) codebook."""
    groups = torch.arange(table.shape[0], device=table.device)
    return table[groups, codes].flatten(1)


# Lines in registers (whole groups of four, broken ones, the widest), lines walked by a block.
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("codes", [1, 3, 4, 127, 320, 381, 382, 1000, 1021, 1022, 1024, 5003])
@pytest.mark.parametrize("training", [True, False])
def test_parity(dtype: torch.dtype, codes: int, training: bool) -> None:
    fresh_seed()
    logits = (2 * torch.randn(150, 2, codes, device="cuda")).to(dtype).requires_grad_()
    codebook = torch.randn(2, codes, 20, device="cuda").to(dtype).requires_grad_()
    grads = [torch.randn(150, 40, device="cuda").to(dtype), torch.randn(2, codes, device="cuda")]
    with poisoned():
        got = gumbel_vq(logits, codebook, tau=0.7, training=training, **SEEDS)
        mine = torch.autograd.grad((got.vectors, got.mean_probs), (logits, codebook), grads)
    wide = logits.detach().double().requires_grad_()
    table = codebook.detach().double().requires_grad_()
    extra = [tensor.cuda() for tensor in scalars(0.7, 5, 3)]
    wanted = gumbel_vq_reference(wide, table, *extra, training=training)
    assert_chosen(got.codes, logits, training)
    chosen = rows_of(got.codes, table)
    assert torch.equal(got.vectors.double(), chosen.detach())
    counts = [torch.bincount(column, minlength=codes) for column in got.codes.unbind(1)]
    assert torch.equal(got.code_counts, torch.stack(counts))
    torch.testing.assert_close(got.mean_probs.double(), wanted[2], atol=1e-6, rtol=1e-4)
    outputs, upstream = (wanted[0], wanted[2]), [grad.double() for grad in grads]
    slopes = torch.autograd.grad(outputs, wide, upstream)[0]
    rows = torch.autograd.grad(chosen, table, upstream[0])[0]
    tolerance = 8 * torch.finfo(dtype).eps + 2e-5
    for one, two in zip(mine, (slopes, rows), strict=True):
        assert one.dtype == dtype
        # Over a single code the gradient of the logits is zero but for rounding.
        floor = 1e-6 * two.numel() ** 0.5 if codes == 1 else 0.0
        assert (one.double() - two).norm() <= tolerance * two.norm() + floor


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("groups", "codes"), [(2, 50), (1, 6000), (1, 300_000)])
def test_linear_parity(dtype: torch.dtype, groups: int, codes: int) -> None:
    rows, width, dim = 700, 16, 32  # 300,000 codes are two chunks
    fresh_seed()
    tensors = [
        (scale * torch.randn(shape, device="cuda")).to(dtype).requires_grad_()
        for shape, scale in (
            ((rows, dim), 1.0),
            ((groups * codes, dim), 0.3),
            ((groups * codes,), 1.0),
            ((groups, codes, width), 1.0),
        )
    ]
    with poisoned():
        got = gumbel_vq_linear(*tensors, tau=1.5, **SEEDS)
    work = [tensor.detach().float().requires_grad_() for tensor in tensors]
    logits = functional.linear(*work[:3]).reshape(rows, groups, codes)
    wanted = gumbel_vq(logits, work[3], tau=1.5, **SEEDS)
    # Products may round differently; a code differs only where two are that close.
    same = (got.codes == wanted.codes).all(-1)
    assert same.float().mean() > 0.98
    torch.testing.assert_close(got.mean_probs, wanted.mean_probs, atol=1e-6, rtol=1e-3)
    grad = torch.randn(rows, groups * width, device="cuda").to(dtype) * same[:, None]
    with poisoned():
        mine = torch.autograd.grad(got.vectors, tensors, grad)
    theirs = torch.autograd.grad(wanted.vectors, work, grad.float())
    tolerance = 8 * torch.finfo(dtype).eps + 1e-3
    for one, two in zip(mine, theirs, strict=True):
        assert (one.float() - two).norm() <= tolerance * two.norm()


def test_waits_for_nothing() -> None:
    logits = torch.randn(64, 2, 320, device="cuda", requires_grad=True)
    codebook = torch.randn(2, 320, 32, device="cuda", requires_grad=True)
    hidden = torch.randn(64, 48, device="cuda", requires_grad=True)
    weight, bias = torch.randn(640, 48, device="cuda"), torch.zeros(640, device="cuda")
    extra = [tensor.cuda() for tensor in scalars(0.7, 5, 3)]
    with no_waiting():
        for values in (extra, (0.7, 5, 3), (0.7, None, None)):
            options = dict(zip(("tau", "seed", "offset"), values, strict=True))
            for out in (
                gumbel_vq(logits, codebook, **options),
                gumbel_vq_linear(hidden, weight, bias, codebook, **options),
            ):
                (out.vectors.sum() + out.mean_probs.sum()).backward()


def test_same_bits_for_scalars_on_either_side_and_in_a_graph() -> None:
    logits = torch.randn(64, 2, 320, device="cuda")
    codebook = torch.randn(2, 320, 32, device="cuda")
    wanted = gumbel_vq(logits, codebook, tau=0.7, seed=5, offset=3)
    tau, seed, offset = (tensor.cuda() for tensor in scalars(2.0, 1, 1))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()  # what the other stream reads is there
    with torch.cuda.stream(stream):
        gumbel_vq(logits, codebook, tau=tau, seed=seed, offset=offset)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = gumbel_vq(logits, codebook, tau=tau, seed=seed, offset=offset)
    tau.fill_(0.7), seed.fill_(5), offset.fill_(3)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out.codes, wanted.codes)
    assert torch.equal(out.mean_probs, wanted.mean_probs)


def test_two_streams() -> None:
    codebook = torch.randn(2, 320, 32, device="cuda")
    work = [torch.randn(500, 2, 320, device="cuda") for _ in range(8)]
    wanted = [gumbel_vq(logits, codebook, tau=1.0, seed=i) for i, logits in enumerate(work)]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    got = []
    for i, logits in enumerate(work):
        with torch.cuda.stream(streams[i % 2]):
            got.append(gumbel_vq(logits, codebook, tau=1.0, seed=i))
    torch.cuda.synchronize()
    for one, two in zip(got, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("size", [320, 5003])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_values_stay_in_bounds(size: int, value: float) -> None:
    logits = torch.full((9, 1, size), value, device="cuda", requires_grad=True)
    out = gumbel_vq(logits, torch.randn(1, size, 4, device="cuda"), tau=1.0)
    out.vectors.sum().backward()
    assert bool(((out.codes >= 0) & (out.codes < size)).all())
