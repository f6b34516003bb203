"""Prefix attention: the kernel against the reference, the reference against arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from stk.ops import attention
from stk.ops.reference import attention as reference
from tests.ops.attention_cases import RULES, counts, inputs, seeded

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
# Block sizes of the kernels (96 queries, 128 keys, groups of 6 and 16, 4 queries read in place),
# their neighbours, and the smallest sizes.
QUERY_COUNTS = (1, 2, 4, 5, 6, 7, 15, 17, 63, 64, 65, 95, 96, 97)
KEY_COUNTS = (1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200)
WIDTHS = (8, 16, 20, 32, 48, 64, 80, 96, 128)


def naive(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, lengths: Tensor, scale: float
) -> Tensor:
    """Attention one query at a time; visible (B, Tq), lengths (B,)."""
    output = torch.zeros(*query.shape[:3], value.shape[3], dtype=query.dtype)
    for b in range(query.shape[0]):
        for i in range(int(lengths[b])):
            n = int(visible[b, i])
            for h in range(query.shape[1]):
                if n > 0:
                    weights = torch.softmax(scale * key[b, h, :n] @ query[b, h, i], dim=0)
                    output[b, h, i] = weights @ value[b, h, :n]
    return output


def run(function, tensors: tuple[Tensor, ...], *arguments, **options) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
    """Output and the gradients of the inputs for a fixed random grad."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves, *arguments, **options)
    grad = torch.randn(output.shape, generator=seeded(99)).to(output.device, output.dtype)
    return (output.detach(), *torch.autograd.grad(output, leaves, grad))


def assert_near(
    results: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float
) -> None:
    for name, result, wanted in zip(
        ("output", "query", "key", "value"), results, expected, strict=True
    ):
        assert result.shape == wanted.shape, name
        wide = wanted.double()
        error = (result.double() - wide).norm() / wide.norm().clamp(min=1.0)
        assert error < tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("rule", RULES)
def test_each_query_sees_its_prefix(path: str, rule: str) -> None:
    query, key, value = inputs(1, 3, 2, 9, 11, 8, 5, torch.float64)
    visible = counts(rule, 3, 9, 11, seeded(2))
    lengths = torch.tensor([9, 0, 5])
    result = attention(query, key, value, visible, query_lengths=lengths, scale=0.3)
    full = torch.full((3, 9), 11) if visible is None else visible
    full = full[:, None].expand(3, 9) if full.dim() == 1 else full.expand(3, 9)
    expected = naive(query, key, value, full, lengths, 0.3)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_kernel_agrees_with_reference_on_adversarial_shapes(kernel: None, seed: int) -> None:
    generator = seeded(seed)

    def pick(choices: tuple) -> object:  # type: ignore[type-arg]
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    queries, keys = int(pick(QUERY_COUNTS)), int(pick(KEY_COUNTS))  # type: ignore[call-overload]
    width, value_width = int(pick(WIDTHS)), int(pick(WIDTHS))  # type: ignore[call-overload]
    tensors = inputs(seed, 3, 2, queries, keys, width, value_width)
    visible = counts(str(pick(RULES)), 3, queries, keys, generator)
    lengths = torch.randint(0, queries + 1, (3,), generator=generator) if seed % 2 else None
    options = {"query_lengths": lengths, "dropout_p": 0.3 if seed % 3 == 0 else 0.0}
    wide = tuple(tensor.double() for tensor in tensors)
    seeds = {"seed": torch.tensor(seed), "offset": torch.tensor(7)}
    expected = run(reference.attention, wide, visible, **options, **seeds)
    assert_near(
        run(attention, tensors, visible, **options, **seeds), expected, TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_dtypes(path: str, dtype: torch.dtype) -> None:
    tensors = inputs(3, 2, 2, 37, 50, 32, 24, dtype)
    visible = torch.tensor([50, 21])
    results = run(attention, tensors, visible, query_lengths=torch.tensor([37, 20]))
    assert {result.dtype for result in results} == {dtype}
    wide = tuple(tensor.double() for tensor in tensors)
    expected = run(reference.attention, wide, visible, query_lengths=torch.tensor([37, 20]))
    assert_near(results, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("queries", [3, 7])
@pytest.mark.parametrize("dropout_p", [0.0, 0.4])
def test_gradcheck(path: str, queries: int, dropout_p: float) -> None:
    tensors = inputs(4, 2, 2, queries, 9, 6, 5, torch.float64)
    visible = counts("any", 2, queries, 9, seeded(5))
    lengths = torch.tensor([queries, queries - 1])

    def function(*leaves: Tensor) -> Tensor:
        return attention(
            *leaves, visible, query_lengths=lengths, dropout_p=dropout_p, seed=11, offset=3
        )

    assert torch.autograd.gradcheck(function, tensors)


def test_queries_that_see_nothing_are_zero_and_pass_no_gradient(path: str) -> None:
    query, key, value = inputs(5, 2, 2, 8, 8, 16, 16)
    visible = torch.tensor([0, 3])
    results = run(attention, (query, key, value), visible, query_lengths=torch.tensor([8, 4]))
    for result in results:
        assert torch.equal(result[0], torch.zeros_like(result[0]))
    for hidden in (results[0][1, :, 4:], results[1][1, :, 4:], results[2][1, :, 3:]):
        assert torch.equal(hidden, torch.zeros_like(hidden))
    assert results[0][1, :, :4].abs().min() > 0


@pytest.mark.parametrize("queries", [2, 40])
def test_padding_is_never_read(kernel: None, queries: int) -> None:
    query, key, value = (tensor.detach() for tensor in inputs(6, 2, 2, queries, 50, 32, 32))
    visible, lengths = torch.tensor([50, 30]), torch.tensor([queries, 1])
    clean = run(attention, (query, key, value), visible, query_lengths=lengths)
    for tensor, start in ((query, 1), (key, 30), (value, 30)):
        tensor[1, :, start:] = float("nan")
    for result, wanted in zip(
        run(attention, (query, key, value), visible, query_lengths=lengths), clean, strict=True
    ):
        assert torch.equal(result, wanted)


def test_batch_row_equals_the_row_alone(kernel: None) -> None:
    query, key, value = (tensor.detach() for tensor in inputs(7, 2, 3, 70, 90, 32, 32))
    visible, lengths = torch.tensor([90, 31]), torch.tensor([70, 22])
    both = attention(query, key, value, visible, query_lengths=lengths)[1, :, :22]
    alone = attention(query[1:, :, :22], key[1:, :, :31], value[1:, :, :31])
    assert torch.equal(both, alone[0])


def test_dropout_keeps_the_expected_share_and_scale(path: str) -> None:
    query = torch.zeros(4, 2, 30, 8)
    key, value = torch.zeros(4, 2, 130, 8), torch.eye(130).expand(4, 2, 130, 130)
    weights = attention(query, key, value, dropout_p=0.25, seed=1) * 130
    kept = (weights > 0).double().mean()
    assert abs(float(kept) - 0.75) < 4 * math.sqrt(0.25 * 0.75 / weights.numel())
    assert torch.allclose(weights[weights > 0], torch.tensor(1 / 0.75))


def test_dropout_mask_depends_on_seed_and_offset_alone(path: str) -> None:
    tensors = inputs(8, 2, 2, 20, 33, 16, 16)

    def draw(**options: object) -> Tensor:
        return attention(*tensors, dropout_p=0.5, **options).detach()  # type: ignore[arg-type]

    assert torch.equal(draw(seed=5), draw(seed=torch.tensor(5), offset=0))
    assert not torch.equal(draw(seed=5), draw(seed=6))
    assert not torch.equal(draw(seed=5), draw(seed=5, offset=1))
    torch.manual_seed(0)
    first, second = draw(), draw()
    torch.manual_seed(0)
    assert torch.equal(first, draw())
    assert not torch.equal(first, second)


def test_forward_and_backward_repeat_bit_for_bit(kernel: None) -> None:
    tensors = inputs(9, 3, 2, 150, 170, 32, 32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = run(attention, tensors, torch.tensor([170, 40, 99]))
        torch.set_num_threads(2)
        second = run(attention, tensors, torch.tensor([170, 40, 99]))
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("shape", [(0, 2, 5, 7), (2, 0, 5, 7), (2, 2, 0, 7), (2, 2, 5, 0)])
def test_empty_sizes(path: str, shape: tuple[int, int, int, int]) -> None:
    batch, heads, queries, keys = shape
    tensors = inputs(10, batch, heads, queries, keys, 16, 8)
    visible = torch.full((batch,), keys)
    for result in run(attention, tensors, visible):
        assert torch.equal(result, torch.zeros_like(result))


def test_any_strides(kernel: None) -> None:
    generator = seeded(11)
    query = torch.randn(2, 16, 3, 20, generator=generator).permute(0, 2, 3, 1)
    key = torch.randn(2, 1, 30, 16, generator=generator).expand(2, 3, 30, 16)
    value = torch.randn(30, 2, 3, 40, generator=generator).permute(1, 2, 0, 3)[..., ::2]
    visible = torch.tensor([[30, 3], [9, 3]])[:, 0]
    expected = run(reference.attention, (query, key, value), visible)
    assert_near(run(attention, (query, key, value), visible), expected, 2e-5)
    leaves = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    attention(*leaves, visible).sum().backward()  # a grad whose strides are all zero
    assert all(leaf.grad is not None and leaf.grad.shape == leaf.shape for leaf in leaves)


def test_large_scores_do_not_overflow(path: str) -> None:
    query, key, value = inputs(12, 1, 1, 10, 40, 16, 16)
    tensors = (query * 300.0, key, value)
    results = run(attention, tensors, torch.arange(1, 11)[None])
    expected = run(
        reference.attention, tuple(t.double() for t in tensors), torch.arange(1, 11)[None]
    )
    assert all(bool(result.isfinite().all()) for result in results)
    torch.testing.assert_close(results[0], expected[0].float(), rtol=1e-3, atol=1e-3)


def test_non_finite_values_pass_through(path: str) -> None:
    query, key, value = (tensor.detach() for tensor in inputs(13, 2, 1, 6, 20, 16, 16))
    key[0, 0, 3, 0] = float("nan")
    output = attention(query, key, value)
    assert bool(output[0].isnan().all())
    assert bool(output[1].isfinite().all())


def test_autocast_takes_its_dtype(path: str) -> None:
    query, key, value = inputs(14, 2, 2, 12, 12, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attention(query, key, value)
    assert output.dtype == torch.bfloat16
    expected = attention(query.bfloat16(), key.bfloat16(), value.bfloat16())
    assert torch.equal(output, expected)
    output.float().sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.float32


def test_second_order_gradient_is_a_clear_error(kernel: None) -> None:
    tensors = inputs(15, 1, 1, 4, 4, 8, 8)
    (grad,) = torch.autograd.grad(attention(*tensors).sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="second-order"):
        grad.sum().backward()


def test_attention_weights_for_pictures() -> None:
    query, key, value = (tensor.detach() for tensor in inputs(16, 2, 2, 7, 9, 8, 9))
    visible, lengths = counts("any", 2, 7, 9, seeded(1)), torch.tensor([7, 3])
    weights = reference.attention_weights(query, key, visible, query_lengths=lengths)
    assert weights.shape == (2, 2, 7, 9)
    expected = attention(query, key, value, visible, query_lengths=lengths)
    torch.testing.assert_close(weights @ value, expected)


@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_opcheck(kernel: None, dropout_p: float) -> None:
    tensors = inputs(18, 2, 2, 9, 11, 16, 8)
    rest = (
        torch.tensor([11, 4]),
        torch.tensor([9, 3]),
        torch.tensor(1),
        torch.tensor(2),
        0.25,
        dropout_p,
    )
    torch.library.opcheck(torch.ops.stk.attention.default, (*tensors, *rest))
    plain = tuple(tensor.detach() for tensor in tensors)
    torch.library.opcheck(torch.ops.stk.attention_inference.default, (*plain, *rest))
    output, logsumexp = torch.ops.stk.attention(*plain, *rest)
    torch.library.opcheck(
        torch.ops.stk.attention_backward.default,
        (torch.ones_like(output), *plain, output, logsumexp, *rest),
    )


@pytest.mark.parametrize(
    ("training", "form"),
    [(True, "tensors"), (False, "tensors"), (True, "numbers"), (True, "none")],
)
def test_one_compilation_over_ten_steps(kernel: None, training: bool, form: str) -> None:
    def step(
        tensors: tuple[Tensor, ...], visible: Tensor, lengths: Tensor, **random: object
    ) -> Tensor:
        return attention(*tensors, visible, query_lengths=lengths, dropout_p=0.1, **random)  # type: ignore[arg-type]

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    for index in range(10):
        queries, keys = 5 + 3 * index, 40 + index
        tensors = inputs(index, 2, 2, queries, keys, 16, 16)
        if not training:
            tensors = tuple(tensor.detach() for tensor in tensors)  # type: ignore[assignment]
        visible = torch.randint(1, keys + 1, (2, queries), generator=seeded(index))
        lengths = torch.tensor([queries, index])
        random: dict[str, object] = {"seed": 1003 + 5 * index, "offset": 502 + index}
        if form == "tensors":
            random = {name: torch.tensor(value) for name, value in random.items()}
        if form == "none":
            random = {}
        result = compiled(tensors, visible, lengths, **random)
        if form != "none":
            torch.testing.assert_close(result, step(tensors, visible, lengths, **random))
        if training:
            result.sum().backward()
            assert tensors[0].grad is not None
    assert counter.frame_count == 1
