"""Packing of real rows."""

import pytest
import torch

from stk.modules.rows import Rows, zero_padding


def test_round_trip_keeps_real_rows_and_zeroes_padding() -> None:
    x = torch.randn(3, 4, 2)
    rows = Rows(torch.tensor([4, 0, 2]), 4)
    packed = rows.pack(x)
    assert torch.equal(packed, torch.cat([x[0], x[2, :2]]))
    back = rows.unpack(packed)
    assert torch.equal(back[0], x[0]) and torch.equal(back[2, :2], x[2, :2])
    assert not back[1].any() and not back[2, 2:].any()


def test_without_padding_nothing_is_copied() -> None:
    x = torch.randn(2, 3, 2)
    rows = Rows(torch.tensor([3, 3]), 3)
    assert rows.pack(x) is x and rows.unpack(x) is x


def test_clean_is_the_same_packed_or_not() -> None:
    x = torch.randn(2, 3, 2)
    lengths = torch.tensor([3, 1])
    packed, padded = Rows(lengths, 3), Rows(lengths, 3, pack=False)
    assert packed.index is not None and padded.index is None
    assert torch.equal(packed.clean(packed.pack(x)), padded.clean(padded.pack(x)))


@pytest.mark.parametrize("step", ["pack", "unpack"])
def test_gradients(step: str) -> None:
    rows = Rows(torch.tensor([3, 1, 2]), 3)
    shape = (3, 3, 2) if step == "pack" else (6, 2)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(rows, step), (x,))


def test_padding_that_is_not_finite_vanishes() -> None:
    x = torch.full((1, 3, 2), float("nan"))
    x[:, :1] = 1.0
    assert zero_padding(x, torch.tensor([[True, False, False]])).sum() == 2.0


def test_gradients_pass_through_a_compiled_graph():
    weight = torch.randn(4, 4, requires_grad=True)
    rows = Rows(torch.tensor([3, 1]), 3)
    x = torch.randn(2, 3, 4)

    def there_and_back(x, weight):
        return rows.pack(rows.unpack(rows.pack(x) @ weight) @ weight).square().sum()

    torch.compiler.reset()
    found = []
    for function in (there_and_back, torch.compile(there_and_back, backend="aot_eager")):
        found += torch.autograd.grad(function(x, weight), weight)
    assert bool(found[0].abs().sum() > 0)
    torch.testing.assert_close(found[1], found[0])
