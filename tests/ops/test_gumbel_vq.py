"""gumbel_vq and gumbel_vq_linear: kernels and references, gradients, compilation."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

from stk.ops import gumbel_vq, gumbel_vq_linear
from stk.ops.reference.gumbel_vq import (
    gumbel_noise,
    gumbel_vq_linear_reference,
    gumbel_vq_reference,
)
from tests.ops.gumbel_vq_cases import SEEDS, scalars


def gradients(out, inputs, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Gradients of a fixed linear function of ``vectors`` and ``mean_probs``."""
    generator = torch.Generator().manual_seed(seed)
    grads = [
        torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
        for tensor in (out[0], out[2])
    ]
    return torch.autograd.grad((out[0], out[2]), inputs, grads)


# Sizes around the lane count, the four words of a counter and a group that starts off its boundary.
SHAPES = [
    *((5, 2, codes, 3) for codes in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 320)),
    (1, 1, 1000, 7),
    (300, 3, 13, 1),
    (0, 2, 6, 4),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_kernel_matches_reference(kernel, shape: tuple[int, ...], training: bool) -> None:
    rows, groups, codes, width = shape
    torch.manual_seed(codes)
    logits = (2.0 * torch.randn(rows, groups, codes)).requires_grad_()
    codebook = torch.randn(groups, codes, width, requires_grad=True)
    wide = [tensor.detach().double().requires_grad_() for tensor in (logits, codebook)]
    got = gumbel_vq(logits, codebook, tau=0.7, training=training, seed=2**40 + 7, offset=-9)
    wanted = gumbel_vq_reference(*wide, *scalars(0.7, 2**40 + 7, -9), training=training)
    assert torch.equal(got.codes, wanted[1])
    assert torch.equal(got.vectors.double(), wanted[0])
    assert torch.equal(got.code_counts, wanted[3])
    torch.testing.assert_close(got.mean_probs.double(), wanted[2], atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(
        gradients(got, (logits, codebook)), gradients(wanted, wide), strict=True
    ):
        torch.testing.assert_close(mine.double(), theirs, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 6, 70])
def test_linear_kernel_matches_reference(kernel, rows: int, training: bool) -> None:
    groups, codes, width, dim = 2, 50, 6, 9
    tensors = [
        tensor.requires_grad_()
        for tensor in (
            torch.randn(rows, dim),
            torch.randn(groups * codes, dim),
            torch.randn(groups * codes),
            torch.randn(groups, codes, width),
        )
    ]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    got = gumbel_vq_linear(*tensors, tau=1.5, training=training, **SEEDS)
    wanted = gumbel_vq_linear_reference(*wide, *scalars(1.5, 5, 3), training=training)
    assert torch.equal(got.codes, wanted[1])
    assert torch.equal(got.vectors.double(), wanted[0])
    assert torch.equal(got.code_counts, wanted[3])
    torch.testing.assert_close(got.mean_probs.double(), wanted[2], atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(gradients(got, tensors), gradients(wanted, wide), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=5e-6, rtol=1e-4)


def test_linear_chunks_join_without_a_seam(kernel) -> None:
    """More logits than one chunk holds: the same as the whole logits at once."""
    rows, codes, width, dim = 700, 60_000, 2, 3  # 128 MiB is 559 rows
    hidden, weight = torch.randn(rows, dim), torch.randn(codes, dim)
    bias, codebook = torch.randn(codes), torch.randn(1, codes, width)
    tensors = [tensor.requires_grad_() for tensor in (hidden, weight, bias, codebook)]
    got = gumbel_vq_linear(*tensors, tau=1.0, **SEEDS)
    logits = functional.linear(hidden, weight, bias)[:, None]
    whole = gumbel_vq(logits, codebook, tau=1.0, **SEEDS)
    # The products may round differently; a code differs only where two are that close.
    same = (got.codes == whole.codes)[:, 0]
    assert same.float().mean() > 0.99
    torch.testing.assert_close(got.mean_probs, whole.mean_probs, atol=1e-8, rtol=1e-4)
    grad = torch.randn(rows, width) * same[:, None]
    one = torch.autograd.grad(got.vectors, tensors, grad)
    two = torch.autograd.grad(whole.vectors, tensors, grad)
    for mine, theirs in zip(one, two, strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(path: str, dtype: torch.dtype) -> None:
    logits = torch.randn(40, 2, 30).to(dtype).requires_grad_()
    codebook = torch.randn(2, 30, 5).to(dtype).requires_grad_()
    out = gumbel_vq(logits, codebook, tau=0.9, **SEEDS)
    wide = [tensor.detach().double().requires_grad_() for tensor in (logits, codebook)]
    wanted = gumbel_vq_reference(*wide, *scalars(0.9, 5, 3), training=True)
    assert out.vectors.dtype == dtype and out.mean_probs.dtype == torch.float32
    assert torch.equal(out.codes, wanted[1])
    assert torch.equal(out.vectors.double(), wanted[0])
    torch.testing.assert_close(out.mean_probs.double(), wanted[2], atol=1e-6, rtol=1e-5)
    tolerance = 4 * torch.finfo(dtype).eps
    for mine, theirs in zip(
        gradients(out, (logits, codebook)), gradients(wanted, wide), strict=True
    ):
        assert mine.dtype == dtype
        assert (mine.double() - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linear_half_precision_keeps_fp32_logits(path: str, dtype: torch.dtype) -> None:
    tensors = [
        tensor.to(dtype).requires_grad_()
        for tensor in (
            torch.randn(20, 8),
            torch.randn(5000, 8),  # more codes than are widened at a time
            torch.randn(5000),
            torch.randn(1, 5000, 4),
        )
    ]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    out = gumbel_vq_linear(*tensors, tau=1.0, **SEEDS)
    wanted = gumbel_vq_linear_reference(*wide, *scalars(1.0, 5, 3), training=True)
    assert torch.equal(out.codes, wanted[1])
    tolerance = 8 * torch.finfo(dtype).eps
    for mine, theirs in zip(gradients(out, tensors), gradients(wanted, wide), strict=True):
        assert mine.dtype == dtype
        assert (mine.double() - theirs).norm() <= tolerance * theirs.norm()


def test_mixed_dtypes_keep_codebook_rows_exact(path: str) -> None:
    logits, codebook = torch.randn(9, 2, 5).bfloat16(), torch.randn(2, 5, 3)
    out = gumbel_vq(logits, codebook, tau=1.0, **SEEDS)
    assert out.vectors.dtype == torch.float32
    rows = out.vectors.reshape(9, 2, 3)
    for group in range(2):
        assert torch.equal(rows[:, group], codebook[group, out.codes[:, group]])


def test_gradcheck_of_what_is_smooth(path: str) -> None:
    """mean_probs is an ordinary function; vectors are one of the codebook while codes stay."""
    logits = torch.randn(7, 2, 5, dtype=torch.float64, requires_grad=True)
    codebook = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(10, dtype=torch.float64, requires_grad=True)
    for training in (True, False):
        options = {"tau": 0.8, "training": training, "seed": 3}
        assert torch.autograd.gradcheck(
            lambda x, options=options: gumbel_vq(x, codebook, **options).mean_probs, logits
        )
        assert torch.autograd.gradcheck(
            lambda c, options=options: gumbel_vq(logits, c, **options).vectors, codebook
        )
        assert torch.autograd.gradcheck(
            lambda h, w, b, options=options: (
                gumbel_vq_linear(h, w, b, codebook, **options).mean_probs
            ),
            (hidden, weight, bias),
        )


def test_straight_through_gradient_is_that_of_the_soft_choice(path: str) -> None:
    logits = torch.randn(7, 2, 5, dtype=torch.float64, requires_grad=True)
    codebook = torch.randn(2, 5, 3, dtype=torch.float64)
    grad = torch.randn(7, 6, dtype=torch.float64)
    out = gumbel_vq(logits, codebook, tau=0.5, seed=1, offset=2)
    got = torch.autograd.grad(out.vectors, logits, grad)[0]
    noise = gumbel_noise((7, 2, 5), torch.tensor(1), torch.tensor(2), logits.device)
    soft = ((logits + noise) / torch.tensor(0.5)).softmax(-1)
    choice = torch.einsum("ngv,gvd->ngd", soft, codebook).reshape(7, 6)
    torch.testing.assert_close(got, torch.autograd.grad(choice, logits, grad)[0])
    assert torch.equal(out.codes, (logits + noise).argmax(-1))
    assert bool((got != 0).all())  # it reaches the codes that were not chosen


def test_evaluation_has_no_noise_and_no_gradient_through_vectors(path: str) -> None:
    logits, codebook = torch.randn(9, 2, 5, requires_grad=True), torch.randn(2, 5, 3)
    codebook.requires_grad_()
    out = gumbel_vq(logits, codebook, tau=1.0, training=False)
    assert torch.equal(out.codes, logits.argmax(-1))
    grads = torch.autograd.grad(out.vectors.sum(), (logits, codebook), allow_unused=True)
    assert grads[0] is None or bool((grads[0] == 0).all())
    counts = out.code_counts[..., None].expand(2, 5, 3).float()
    torch.testing.assert_close(grads[1], counts)


def test_a_tie_takes_the_lowest_index(path: str) -> None:
    logits = torch.zeros(1, 2, 40)
    logits[0, 1, 17] = logits[0, 1, 33] = 1.0
    out = gumbel_vq(logits, torch.randn(2, 40, 3), tau=1.0, training=False)
    assert out.codes.tolist() == [[0, 17]]


def test_no_rows_give_zeros(path: str) -> None:
    codebook = torch.randn(2, 5, 3, requires_grad=True)
    for out in (
        gumbel_vq(torch.zeros(0, 2, 5), codebook, tau=1.0),
        gumbel_vq_linear(torch.zeros(0, 4), torch.randn(10, 4), torch.zeros(10), codebook, tau=1.0),
    ):
        assert out.vectors.shape == (0, 6) and out.codes.shape == (0, 2)
        assert bool((out.mean_probs == 0).all()) and bool((out.code_counts == 0).all())
        grad = torch.autograd.grad(out.vectors.sum(), codebook)[0]
        assert bool((grad == 0).all())


def test_seeds(path: str) -> None:
    logits, codebook = torch.zeros(200, 1, 50), torch.randn(1, 50, 2)

    def codes(**options):
        return gumbel_vq(logits, codebook, tau=1.0, **options).codes

    fixed = codes(seed=1, offset=0)
    assert torch.equal(fixed, codes(seed=torch.tensor(1), offset=None))
    assert not torch.equal(fixed, codes(seed=2))
    assert not torch.equal(fixed, codes(seed=1, offset=1))
    torch.manual_seed(0)
    first, second = codes(), codes()
    torch.manual_seed(0)
    assert torch.equal(first, codes()) and not torch.equal(first, second)
    state = torch.get_rng_state()
    gumbel_vq(logits, codebook, tau=1.0, training=False)
    assert torch.equal(state, torch.get_rng_state())


def test_codes_follow_the_softmax(path: str) -> None:
    """Arg-max of logits plus Gumbel noise draws from softmax(logits) (Gumbel, 1954)."""
    logits = torch.linspace(-2.0, 2.0, 6).repeat(20_000, 1, 1)
    out = gumbel_vq(logits, torch.randn(1, 6, 1), tau=0.3, seed=12)
    share = out.code_counts[0] / 20_000
    wanted = out.mean_probs[0]
    assert bool(((share - wanted).abs() < 5 * (wanted * (1 - wanted) / 20_000).sqrt()).all())


def test_the_tail_of_the_noise_is_fine_grained(path: str) -> None:
    """Among many equal codes the winner's noise is beyond the reach of 24-bit uniforms."""
    noise = gumbel_noise((2_000_000,), torch.tensor(4), torch.tensor(0), torch.device("cpu"))
    top = noise.sort(descending=True).values[:1000]
    assert top.unique().numel() == 1000
    assert bool(noise.isfinite().all()) and abs(float(noise.mean()) - 0.5772) < 0.005


def test_strided_inputs_and_gradients(path: str) -> None:
    logits = torch.randn(5, 6, 2).permute(1, 2, 0).requires_grad_()
    codebook = torch.randn(2, 3, 5).transpose(1, 2).requires_grad_()
    got = gumbel_vq(logits, codebook, tau=1.0, seed=1)
    wanted = gumbel_vq(logits.contiguous(), codebook.contiguous(), tau=1.0, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    one = torch.autograd.grad(got.vectors.sum() + got.mean_probs[0, 0], (logits, codebook))
    two = torch.autograd.grad(wanted.vectors.sum() + wanted.mean_probs[0, 0], (logits, codebook))
    torch.testing.assert_close(one, two)


def test_opcheck(kernel) -> None:
    logits = torch.randn(4, 2, 5, requires_grad=True)
    codebook = torch.randn(2, 5, 3, requires_grad=True)
    extra = scalars(0.7, 1, 2)
    for training in (True, False):
        torch.library.opcheck(
            torch.ops.stk.gumbel_vq, (logits, codebook, *extra), {"training": training}
        )
    torch.library.opcheck(
        torch.ops.stk.gumbel_vq_linear,
        (
            torch.randn(4, 3, requires_grad=True),
            torch.randn(10, 3, requires_grad=True),
            torch.randn(10, requires_grad=True),
            codebook,
            *extra,
        ),
        {"training": True},
    )


@pytest.mark.parametrize(
    ("linear", "form"), [(False, "numbers"), (False, "tensors"), (False, "none"), (True, "tensors")]
)
def test_one_compilation_over_ten_steps(kernel, linear: bool, form: str) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    codebook = torch.randn(2, 6, 3, requires_grad=True)

    def step(tensors, tau, seed, offset):
        function = gumbel_vq_linear if linear else gumbel_vq
        out = function(*tensors, codebook, tau=tau, seed=seed, offset=offset)
        return out.vectors.square().sum() + out.mean_probs.square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=counter)
    weight, bias = torch.randn(12, 4, requires_grad=True), torch.randn(12, requires_grad=True)
    for i in range(10):
        rows = 11 + 2 * i  # unlike every other size, which a trace would take for the same
        tensors = [torch.randn(rows, 4), weight, bias] if linear else [torch.randn(rows, 2, 6)]
        tensors[0].requires_grad_()
        extra = (2.0 * 0.9**i, 1003 + 5 * i, 502 + i)
        if form == "tensors":
            extra = scalars(*extra)
        if form == "none":
            extra = (extra[0], None, None)
        loss = compiled(tensors, *extra)
        grads = torch.autograd.grad(loss, (*tensors, codebook))
        if form != "none":
            wanted = torch.autograd.grad(step(tensors, *extra), (*tensors, codebook))
            torch.testing.assert_close(grads, wanted)
    assert counter.frame_count == 1


def test_autocast(path: str) -> None:
    hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(10, 4, requires_grad=True)
    bias, codebook = torch.randn(10), torch.randn(2, 5, 3)
    half = [tensor.bfloat16() for tensor in (hidden, weight, bias)]
    wanted = gumbel_vq_linear(*half, codebook, tau=1.0, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = gumbel_vq_linear(hidden, weight, bias, codebook, tau=1.0, seed=1)
        plain = gumbel_vq(torch.randn(4, 2, 5), codebook, tau=1.0)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert plain.vectors.dtype == torch.float32
    got.vectors.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


def test_a_frozen_codebook_or_projection_gets_no_gradient(path: str) -> None:
    hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(10, 4)
    bias, codebook = torch.randn(10), torch.randn(2, 5, 3)
    gumbel_vq_linear(hidden, weight, bias, codebook, tau=1.0).vectors.sum().backward()
    assert hidden.grad.abs().sum() > 0
    assert weight.grad is None and bias.grad is None and codebook.grad is None
    # Probabilities alone do not reach the codebook.
    codebook.requires_grad_()
    logits = torch.randn(6, 2, 5, requires_grad=True)
    gumbel_vq(logits, codebook, tau=1.0).mean_probs.square().sum().backward()
    assert codebook.grad is None and logits.grad.abs().sum() > 0


def test_second_order_gradient_is_an_error(kernel) -> None:
    logits = torch.randn(4, 2, 5, requires_grad=True)
    out = gumbel_vq(logits, torch.randn(2, 5, 3), tau=1.0)
    grad = torch.autograd.grad(out.vectors.square().sum(), logits, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="gumbel_vq: a second-order gradient"):
        grad.square().sum().backward()
