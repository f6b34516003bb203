"""ctc_shrink: kernel and reference against a plain loop, gradients, compilation."""

import itertools

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from stk.ops import ctc_shrink
from stk.ops.reference.ctc_shrink import ctc_shrink_reference
from tests.ops.ctc_shrink_cases import BLANKS, OPTIONS, REDUCE, peaky


def by_loop(states, scores, lengths, *, blank=0, reduce="mean", blanks="drop"):
    """The definition, frame by frame, in fp64."""
    batch, frames, _ = states.shape
    out, counts = torch.zeros_like(states), []
    segments = torch.full((batch, frames), -1)
    for clip in range(batch):
        length, count = int(lengths[clip]), 0
        rows = scores[clip, :length].double()
        labels = [int(row.argmax()) for row in rows]
        runs = [
            (label, [t for t, _ in group])
            for label, group in itertools.groupby(enumerate(labels), key=lambda pair: pair[1])
        ]
        if blanks == "drop":
            runs = [run for run in runs if run[0] != blank]
        if not runs and length:
            others = torch.cat((rows[:, :blank], rows[:, blank + 1 :]), 1)
            best = int(others.max(1).values.argmax()) if others.shape[1] else 0
            runs = [(blank, [best])]
        for label, where in runs:
            weight = torch.zeros(length, dtype=torch.float64)
            if reduce == "first":
                weight[where[0]] = 1
            else:
                weight[where] = 1 if reduce == "mean" else rows.softmax(-1)[where, label]
            out[clip, count] = (weight / weight.sum()) @ states[clip, :length]
            segments[clip, where] = count
            count += 1
        counts.append(count)
    return out, torch.tensor(counts), segments


@pytest.mark.parametrize(("reduce", "blanks"), OPTIONS)
@pytest.mark.parametrize("blank", [0, 2, 4])
def test_matches_the_loop(path: str, reduce: str, blanks: str, blank: int) -> None:
    scores = peaky(5, 23, 5, blank)
    states = torch.randn(5, 23, 7, dtype=torch.float64)
    lengths = torch.tensor([23, 0, 1, 17, 9])
    options = {"blank": blank, "reduce": reduce, "blanks": blanks}
    got = ctc_shrink(states, scores, lengths, **options)
    wanted = by_loop(states, scores, lengths, **options)
    torch.testing.assert_close(got.states, wanted[0])
    assert got.lengths.tolist() == wanted[1].tolist()
    assert got.segments.tolist() == wanted[2].tolist()


# Widths around the lane count and around the blocks in which rows are read.
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100])
@pytest.mark.parametrize(("reduce", "blanks"), OPTIONS)
def test_kernel_matches_reference_in_fp32(kernel, size: int, reduce: str, blanks: str) -> None:
    for seed in range(3):
        scores = peaky(4, 19, size, blank=size // 2, seed=seed).float().requires_grad_()
        states = torch.randn(4, 19, size + 1, requires_grad=True)
        lengths = torch.tensor([19, 1, 0, 12])
        options = {"blank": size // 2, "reduce": reduce, "blanks": blanks}
        got = ctc_shrink(states, scores, lengths, **options)
        wide, logits = states.detach().double().requires_grad_(), scores.detach().double()
        logits.requires_grad_()
        wanted = ctc_shrink_reference(wide, logits, lengths, **options)
        torch.testing.assert_close(got.states.double(), wanted[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(got.lengths, wanted[1]) and torch.equal(got.segments, wanted[2])
        grad = torch.randn_like(got.states)
        inputs = (states, scores) if reduce == "weighted" else (states,)
        grads = torch.autograd.grad(got.states, inputs, grad)
        sources = (wide, logits)[: len(inputs)]
        for mine, theirs in zip(
            grads, torch.autograd.grad(wanted[0], sources, grad.double()), strict=True
        ):
            torch.testing.assert_close(mine.double(), theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduce", REDUCE)
def test_half_precision_accumulates_in_fp32(path: str, dtype: torch.dtype, reduce: str) -> None:
    scores = peaky(3, 30, 12).to(dtype)
    states = torch.randn(3, 30, 8).to(dtype)
    lengths = torch.tensor([30, 11, 2])
    got = ctc_shrink(states, scores, lengths, reduce=reduce)
    wanted = by_loop(states.double(), scores, lengths, reduce=reduce)
    assert got.states.dtype == dtype
    assert got.segments.tolist() == wanted[2].tolist()
    torch.testing.assert_close(
        got.states.double(), wanted[0], atol=1e-6, rtol=torch.finfo(dtype).eps
    )


@pytest.mark.parametrize(("reduce", "blanks"), OPTIONS)
def test_gradcheck(path: str, reduce: str, blanks: str) -> None:
    scores = peaky(3, 9, 4).requires_grad_()
    states = torch.randn(3, 9, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([9, 5, 0])

    def shrink(states, scores):
        return ctc_shrink(states, scores, lengths, reduce=reduce, blanks=blanks).states

    assert torch.autograd.gradcheck(shrink, (states, scores))


def test_scores_get_no_gradient_unless_weighted(path: str) -> None:
    scores = peaky(2, 8, 4).requires_grad_()
    states = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    for reduce in ("first", "mean"):
        out = ctc_shrink(states, scores, torch.tensor([8, 8]), reduce=reduce).states
        grads = torch.autograd.grad(out.sum(), (states, scores), allow_unused=True)
        assert grads[1] is None
        assert grads[0].abs().sum() > 0


def test_gradient_of_first_reaches_exactly_the_kept_frames(path: str) -> None:
    labels = torch.tensor([[0, 3, 3, 0, 3, 5, 5, 5]])
    states = torch.randn(1, 8, 4, requires_grad=True)
    out = ctc_shrink(states, labels, torch.tensor([8]), reduce="first")
    out.states.sum().backward()
    assert states.grad.abs().sum(-1).nonzero()[:, 1].tolist() == [1, 4, 5]
    assert out.lengths.tolist() == [3]  # token, blank, token counts two
    assert out.segments.tolist() == [[-1, 0, 0, -1, 1, 2, 2, 2]]


def test_a_tie_takes_the_lowest_index(path: str) -> None:
    scores = torch.zeros(1, 3, 40)
    scores[0, 1, 9] = scores[0, 1, 33] = 1.0
    scores[0, 2, 33] = scores[0, 2, 34] = 1.0
    out = ctc_shrink(torch.randn(1, 3, 2), scores, torch.tensor([3]), blank=9)
    # Frame 0 ties everywhere (label 0), frame 1 takes the blank 9 before 33, frame 2 takes 33.
    assert out.segments.tolist() == [[0, -1, 1]]


@pytest.mark.parametrize("blank", [0, 3, 6])
def test_an_all_blank_clip_keeps_its_best_other_frame(path: str, blank: int) -> None:
    scores = torch.randn(2, 6, 7)
    scores[..., blank] = 9.0
    scores[0, 4, (blank + 2) % 7] = scores[0, 5, (blank + 1) % 7] = 8.0  # a tie: the earlier frame
    states = torch.randn(2, 6, 3, requires_grad=True)
    for reduce in REDUCE:
        out = ctc_shrink(states, scores, torch.tensor([6, 0]), blank=blank, reduce=reduce)
        assert out.lengths.tolist() == [1, 0]
        assert out.segments.tolist() == [[-1, -1, -1, -1, 0, -1], [-1] * 6]
        assert torch.equal(out.states[0, 0], states[0, 4])
    labels = torch.full((2, 6), blank)
    out = ctc_shrink(states, labels, torch.tensor([6, 1]), blank=blank)
    assert out.segments[:, 0].tolist() == [0, 0] and out.lengths.tolist() == [1, 1]
    merged = ctc_shrink(states, labels, torch.tensor([6, 1]), blank=blank, blanks="merge")
    assert merged.segments.tolist() == [[0] * 6, [0, -1, -1, -1, -1, -1]]


@pytest.mark.parametrize("labels", [torch.int64, torch.int32])
def test_labels_and_scores_agree(path: str, labels: torch.dtype) -> None:
    scores, states = peaky(3, 20, 6), torch.randn(3, 20, 4)
    lengths = torch.tensor([20, 13, 7])
    for blanks in BLANKS:
        one = ctc_shrink(states, scores, lengths, blanks=blanks)
        two = ctc_shrink(states, scores.argmax(-1).to(labels), lengths, blanks=blanks)
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_padding_and_batching_change_nothing(path: str) -> None:
    scores, states = peaky(3, 20, 6).float(), torch.randn(3, 20, 4)
    lengths = torch.tensor([20, 13, 7])
    scores[1, 13:], states[1, 13:] = torch.nan, torch.nan
    states.requires_grad_()
    scores.requires_grad_()
    for reduce in REDUCE:
        out = ctc_shrink(states, scores, lengths, reduce=reduce)
        grads = torch.autograd.grad(out.states.sum(), (states, scores), allow_unused=True)
        assert all(grad is None or bool(grad.isfinite().all()) for grad in grads)
        for clip, length in enumerate(lengths.tolist()):
            rows = slice(clip, clip + 1)
            alone = ctc_shrink(
                states[rows, :length], scores[rows, :length], lengths[rows], reduce=reduce
            )
            count = int(alone.lengths)
            assert int(out.lengths[clip]) == count
            torch.testing.assert_close(out.states[rows, :length], alone.states)
            assert bool((out.states[clip, count:] == 0).all())


def test_strided_inputs_and_empty_shapes(path: str) -> None:
    scores = peaky(20, 3, 6).transpose(0, 1)
    states = torch.randn(20, 3, 8, dtype=torch.float64).transpose(0, 1)[..., ::2]
    lengths = torch.tensor([20, 0, 13, 0, 4, 0])[::2]
    got = ctc_shrink(states, scores, lengths)
    wanted = ctc_shrink(states.contiguous(), scores.contiguous(), lengths)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    # An expanded gradient, as sum() gives it, and one with a stride in its last dimension.
    states.requires_grad_()
    for grad in (torch.ones(()).double().expand(3, 20, 4), torch.randn(3, 4, 20).double().mT):
        out = ctc_shrink(states, scores, lengths, reduce="weighted").states
        one = torch.autograd.grad(out, states, grad, retain_graph=True)[0]
        torch.testing.assert_close(one, torch.autograd.grad(out, states, grad.contiguous())[0])
    for shape in ((0, 5, 3), (2, 0, 3), (2, 5, 0)):
        empty = ctc_shrink(
            torch.zeros(shape), torch.zeros(*shape[:2], 4), torch.zeros(shape[0], dtype=torch.int64)
        )
        assert empty.states.shape == shape
        assert empty.lengths.shape == shape[:1] and empty.segments.shape == shape[:2]


def test_opcheck(kernel) -> None:
    scores, states = peaky(2, 6, 4).float(), torch.randn(2, 6, 3)
    lengths = torch.tensor([6, 3])
    for reduce in REDUCE:
        torch.library.opcheck(
            torch.ops.stk.ctc_shrink,
            (states.requires_grad_(), scores.requires_grad_(), lengths),
            {"blank": 0, "reduce": reduce, "blanks": "drop"},
        )


def test_one_compilation_over_ten_steps(kernel) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def step(states, scores, lengths):
        return ctc_shrink(states, scores, lengths, reduce="weighted").states.square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=counter)
    for i in range(10):
        batch, frames = 2 + i % 4, 11 + 3 * i
        scores = peaky(batch, frames, 6, seed=i).float().requires_grad_()
        states = torch.randn(batch, frames, 4, requires_grad=True)
        lengths = torch.randint(0, frames + 1, (batch,))
        one = torch.autograd.grad(compiled(states, scores, lengths), (states, scores))
        two = torch.autograd.grad(step(states, scores, lengths), (states, scores))
        torch.testing.assert_close(one, two)
    assert counter.frame_count == 1


def test_autocast_leaves_dtypes_alone(path: str) -> None:
    scores, states = peaky(2, 6, 4).float(), torch.randn(2, 6, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ctc_shrink(states, scores, torch.tensor([6, 3]))
    assert out.states.dtype == torch.bfloat16
    assert torch.equal(out.states, ctc_shrink(states, scores, torch.tensor([6, 3])).states)


def test_second_order_gradient_is_an_error(kernel) -> None:
    states = torch.randn(1, 6, 3, requires_grad=True)
    out = ctc_shrink(states, peaky(1, 6, 4).float(), torch.tensor([6])).states
    grad = torch.autograd.grad(out.square().sum(), states, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="ctc_shrink: a second-order gradient"):
        grad.sum().backward()
