"""ctc_shrink on CUDA: parity with the fp64 reference, streams, and no waiting for the device."""

from __future__ import annotations

import pytest
import torch

from stk.ops import ctc_shrink
from stk.ops.reference.ctc_shrink import ctc_shrink_reference
from tests.ops.ctc_shrink_cases import BLANKS, OPTIONS, peaky
from tests.ops.cuda_cases import fresh_seed, no_waiting, poisoned

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("reduce", "blanks"), OPTIONS)
# Rows that start on 16 bytes and rows that do not; one frame, one tile of the scan and more.
@pytest.mark.parametrize(
    ("frames", "size", "width"),
    [(1, 1, 1), (33, 7, 24), (256, 32, 8), (257, 40, 33), (800, 1000, 256)],
)
def test_parity(
    dtype: torch.dtype, reduce: str, blanks: str, frames: int, size: int, width: int
) -> None:
    batch, blank = 4, size // 2
    seed = fresh_seed() % 2**62
    scores = peaky(batch, frames, size, blank, seed=seed).to("cuda", dtype).requires_grad_()
    states = torch.randn(batch, frames, width, device="cuda", dtype=dtype, requires_grad=True)
    lengths = torch.tensor([frames, frames // 2, 0, 1], device="cuda")
    options = {"blank": blank, "reduce": reduce, "blanks": blanks}
    inputs = (states, scores) if reduce == "weighted" else (states,)
    grad = torch.randn_like(states)
    with poisoned():
        got = ctc_shrink(states, scores, lengths, **options)
        mine = torch.autograd.grad(got.states, inputs, grad)
    wide = [tensor.detach().double().requires_grad_() for tensor in (states, scores)]
    wanted = ctc_shrink_reference(*wide, lengths, **options)
    rounding = torch.finfo(dtype).eps
    assert torch.equal(got.lengths, wanted[1]) and torch.equal(got.segments, wanted[2])
    error = (got.states.double() - wanted[0]).norm()
    assert error <= (4 * rounding + 5e-7) * wanted[0].norm()
    theirs = torch.autograd.grad(wanted[0], wide[: len(inputs)], grad.double())
    # A weight's slope is a difference of two like numbers, and p - 1 of a sure label another.
    for one, two in zip(mine, theirs, strict=True):
        error = (one.double() - two).norm()
        assert error <= (8 * rounding + 7e-6) * two.norm() + 1e-12


def clip_with_long_runs(frames: int, size: int) -> torch.Tensor:
    """Scores whose runs cross the borders of the 256 frames that a block scans at a time."""
    label = (torch.arange(frames) // 37) % size
    return torch.randn(1, frames, size) + 8.0 * torch.nn.functional.one_hot(label, size)


def test_runs_across_tiles_labels_strides_and_fp64() -> None:
    scores, states = clip_with_long_runs(1000, 5).cuda(), torch.randn(1, 1000, 9).cuda()
    lengths = torch.tensor([990], device="cuda")
    for blanks in BLANKS:
        wanted = ctc_shrink_reference(states.double(), scores.double(), lengths, blanks=blanks)
        turned = scores.transpose(0, 1).contiguous().transpose(0, 1)
        for given in (scores, turned, scores.argmax(-1), scores.argmax(-1).int()):
            got = ctc_shrink(states, given, lengths, blanks=blanks)
            assert torch.equal(got.segments, wanted[2])
            torch.testing.assert_close(got.states.double(), wanted[0], atol=1e-5, rtol=1e-5)
        wide = ctc_shrink(states.double(), scores.double(), lengths, blanks=blanks)
        torch.testing.assert_close(wide.states, wanted[0])


def test_all_blank_clips() -> None:
    scores = torch.randn(3, 600, 30, device="cuda")
    scores[..., 4] = 20.0
    scores[0, 411, 7] = scores[0, 530, 2] = 15.0
    lengths = torch.tensor([600, 1, 0], device="cuda")
    out = ctc_shrink(torch.randn(3, 600, 8, device="cuda"), scores, lengths, blank=4)
    assert out.lengths.tolist() == [1, 1, 0]
    assert out.segments[0].nonzero().numel() == 599 and int(out.segments[0, 411]) == 0


def test_waits_for_nothing_and_clamps() -> None:
    scores = peaky(2, 50, 9).float().cuda().requires_grad_()
    states = torch.randn(2, 50, 8, device="cuda", requires_grad=True)
    lengths = torch.tensor([60, -3], device="cuda")
    grad = torch.randn_like(states)
    with no_waiting():
        out = ctc_shrink(states, scores, lengths, reduce="weighted")
        torch.autograd.grad(out.states, (states, scores), grad)
    assert int(out.lengths[1]) == 0 and int(out.lengths[0]) > 0
    broken = scores.detach().clone()
    broken[0, 5] = torch.nan
    broken[0, 9, 3] = torch.inf
    ctc_shrink(states, broken, lengths, reduce="weighted")
    torch.cuda.synchronize()  # no access out of bounds


def test_two_streams() -> None:
    work = [(torch.randn(4, 300, 64).cuda(), peaky(4, 300, 50, seed=i)) for i in range(8)]
    work = [(states, scores.float().cuda()) for states, scores in work]
    lengths = torch.full((4,), 300, device="cuda")
    wanted = [ctc_shrink(*pair, lengths) for pair in work]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    got = []
    for index, pair in enumerate(work):
        with torch.cuda.stream(streams[index % 2]):
            got.append(ctc_shrink(*pair, lengths))
    torch.cuda.synchronize()
    for one, two in zip(got, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
