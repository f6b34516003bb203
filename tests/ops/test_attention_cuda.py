"""Prefix attention's CUDA kernels against the fp64 reference on the CPU."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from stk.ops import attention
from stk.ops.reference import attention as reference
from tests.ops.attention_cases import RULES, counts
from tests.ops.cuda_cases import no_waiting, poisoned

pytestmark = pytest.mark.cuda

# fp32: operands split in two tf32 parts leave products within 2^-22, and sums are rounded as on the
# CPU. Only the gradients of keys and values of heads wider than 64 are summed inside the tensor
# cores, which truncate: three additions per 8 queries, 2^-24 each on average, so 7e-6 at 300
# queries if all terms had one sign.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
# Tiles of 32, 64 and 128 rows, with their neighbours.
COUNTS = (1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300)


def draw(
    generator: torch.Generator, sizes: tuple[int, int, int, int, int, int], dtype: torch.dtype
) -> list[Tensor]:
    """query, key, value and a grad of the output, on the CPU: (B, H, Tq, Tk, d, dv)."""
    batch, heads, queries, keys, width, value_width = sizes
    shapes = ((queries, width), (keys, width), (keys, value_width), (queries, value_width))
    return [
        torch.randn(batch, count, heads, size, generator=generator).to(dtype).transpose(1, 2)
        for count, size in shapes
    ]


def on_gpu(tensors: list[Tensor], visible: Tensor | None, lengths: Tensor | None, **options):  # type: ignore[no-untyped-def]
    """Output and gradients on the GPU, in memory that is poisoned."""
    leaves = [tensor.cuda().requires_grad_() for tensor in tensors[:3]]
    grad = tensors[3].cuda()
    visible = None if visible is None else visible.cuda()
    lengths = None if lengths is None else lengths.cuda()
    with poisoned():
        output = attention(*leaves, visible, query_lengths=lengths, **options)
        return [output.detach(), *torch.autograd.grad(output, leaves, grad)]


def in_fp64(tensors: list[Tensor], visible: Tensor | None, lengths: Tensor | None, **options):  # type: ignore[no-untyped-def]
    leaves = [tensor.double().requires_grad_() for tensor in tensors[:3]]
    output = reference.attention(*leaves, visible, query_lengths=lengths, **options)
    return [output.detach(), *torch.autograd.grad(output, leaves, tensors[3].double())]


def assert_near(results: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for name, result, wanted in zip(
        ("output", "query", "key", "value"), results, expected, strict=True
    ):
        assert result.shape == wanted.shape, name
        # Where a row sees one key, the gradients of query and key are zero but for rounding.
        scale = wanted.norm().clamp(min=0.1 * wanted.numel() ** 0.5)
        error = (result.double().cpu() - wanted).norm() / scale
        assert error < tolerance, f"{name}: relative error {error:.2e}"


def case(seed: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor | None, Tensor | None, dict]:  # type: ignore[type-arg]
    """Tensors, ``visible``, ``query_lengths`` and options of one adversarial case."""
    generator = torch.Generator().manual_seed(seed)

    def pick(choices: tuple[int, ...]) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    widths = (8, 20, 32, 40, 64, 80, 96, 128)
    # Over one key alone, query and key have no gradient but the rounding of what cancels.
    sizes = (2, 3, pick(COUNTS), max(2, pick(COUNTS)), pick(widths), pick(widths))
    tensors = draw(generator, sizes, dtype)
    visible = counts(RULES[seed % 5], 2, sizes[2], sizes[3], generator)
    lengths = torch.randint(0, sizes[2] + 1, (2,), generator=generator) if seed % 3 else None
    options = {
        "dropout_p": 0.3 if seed % 2 else 0.0,
        "seed": torch.tensor(seed),
        "offset": torch.tensor(4),
    }
    return tensors, visible, lengths, options


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("seed", range(30))
def test_agrees_with_fp64_on_adversarial_shapes(seed: int, dtype: torch.dtype) -> None:
    tensors, visible, lengths, options = case(seed, dtype)
    expected = in_fp64(tensors, visible, lengths, **options)
    assert_near(on_gpu(tensors, visible, lengths, **options), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_one_key_alone(dtype: torch.dtype) -> None:
    """Output and the value's gradient; that of query and key is what rounding leaves of zero."""
    tensors = draw(torch.Generator().manual_seed(7), (2, 3, 33, 1, 64, 64), dtype)
    got, expected = on_gpu(tensors, None, None), in_fp64(tensors, None, None)
    assert all(bool(result.isfinite().all()) for result in got)
    for result, wanted in ((got[0], expected[0]), (got[3], expected[3])):
        assert (result.double().cpu() - wanted).norm() < TOLERANCE[dtype] * wanted.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_padding_is_never_read(dtype: torch.dtype) -> None:
    tensors = draw(torch.Generator().manual_seed(1), (2, 2, 150, 140, 64, 64), dtype)
    visible, lengths = torch.tensor([140, 33]), torch.tensor([150, 70])
    clean = on_gpu(tensors, visible, lengths)
    for tensor, start in zip(tensors, (70, 33, 33, 70), strict=True):
        tensor[1, :, start:] = float("nan")
    for result, wanted in zip(on_gpu(tensors, visible, lengths), clean, strict=True):
        assert torch.equal(result, wanted)


def test_layouts_and_scales() -> None:
    tensors = draw(torch.Generator().manual_seed(2), (2, 3, 40, 50, 32, 32), torch.bfloat16)
    # Rows that start on no whole vector; made on the GPU, since a copy there would be dense.
    odd = torch.zeros(2, 3, 40, 33, dtype=torch.bfloat16, device="cuda")[..., 1:].copy_(tensors[0])
    for scale in (0.3, -0.3, 0.0):
        expected = in_fp64(tensors, None, None, scale=scale)
        for query in (tensors[0], odd, tensors[0].transpose(2, 3).contiguous().transpose(2, 3)):
            assert_near(on_gpu([query, *tensors[1:]], None, None, scale=scale), expected, 2e-2)


def test_counts_out_of_range_are_clamped() -> None:
    tensors = draw(torch.Generator().manual_seed(3), (2, 2, 33, 40, 32, 32), torch.float32)
    wild = on_gpu(tensors, torch.tensor([1000, -5]), torch.tensor([-1, 99]))
    for result, wanted in zip(
        wild, on_gpu(tensors, torch.tensor([40, 0]), torch.tensor([0, 33])), strict=True
    ):
        assert torch.equal(result, wanted)


def test_repeats_bit_for_bit_and_on_two_streams() -> None:
    tensors = draw(torch.Generator().manual_seed(4), (2, 4, 200, 220, 64, 64), torch.bfloat16)
    visible = torch.tensor([220, 90])
    first = on_gpu(tensors, visible, None, dropout_p=0.2, seed=3)
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    results = []
    for stream in itertools.islice(itertools.cycle(streams), 6):
        with torch.cuda.stream(stream):
            results.append(on_gpu(tensors, visible, None, dropout_p=0.2, seed=3))
    torch.cuda.synchronize()
    for result in results:
        assert all(torch.equal(one, two) for one, two in zip(result, first, strict=True))


def test_no_synchronisation_and_seed_on_the_device() -> None:
    tensors = draw(torch.Generator().manual_seed(5), (2, 2, 65, 70, 64, 64), torch.bfloat16)
    leaves = [tensor.cuda().requires_grad_() for tensor in tensors[:3]]
    grad, visible, seed = tensors[3].cuda(), torch.tensor([70, 3]).cuda(), torch.tensor(9).cuda()
    attention(*leaves, visible, dropout_p=0.1, seed=seed).backward(grad)  # loads the kernels
    lengths = visible.clamp(max=65)
    with no_waiting():
        output = attention(*leaves, visible, query_lengths=lengths, dropout_p=0.1, seed=seed)
        output.backward(grad)
    host = attention(*leaves, visible, dropout_p=0.1, seed=9)
    assert torch.equal(host, attention(*leaves, visible, dropout_p=0.1, seed=seed))


def test_memory_is_linear_in_length() -> None:
    def peak(length: int) -> int:
        tensors = [
            torch.randn(1, 4, length, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        ]
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        attention(*tensors).sum().backward()
        return torch.cuda.max_memory_allocated() - before

    assert peak(8192) < 2.5 * peak(4096)


def test_wide_heads_and_fp64() -> None:
    wide = torch.zeros(1, 1, 4, 136, device="cuda")
    with pytest.raises(ValueError, match="up to 128"):
        attention(wide, wide, wide)
    tensors = draw(torch.Generator().manual_seed(6), (1, 2, 5, 6, 8, 8), torch.float64)
    assert_near(on_gpu(tensors, None, None), in_fp64(tensors, None, None), 1e-12)
