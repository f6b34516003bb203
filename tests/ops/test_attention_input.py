"""Prefix attention: what bad input gets."""

from __future__ import annotations

import pytest
import torch

from stk.ops import attention
from tests.ops.attention_cases import inputs
from tests.ops.bad_input import beside


def _bad(**changes: object) -> dict[str, object]:
    query, key, value = (tensor.detach() for tensor in inputs(17, 2, 3, 5, 7, 8, 6))
    good: dict[str, object] = {"query": query, "key": key, "value": value}
    return good | changes


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"query": torch.zeros(2, 3, 5)}, ValueError, r"query has shape .*2, 3, 5.* but expected"),
        ({"key": torch.zeros(2, 3, 7, 9)}, ValueError, r"key has shape .*2, 3, 7, 9"),
        ({"key": torch.zeros(2, 2, 7, 8)}, ValueError, r"key has shape .*2, 2, 7, 8"),
        ({"value": torch.zeros(2, 3, 6, 6)}, ValueError, r"value has shape .*2, 3, 6, 6"),
        ({"value": torch.zeros(2, 3, 7, 6).half()}, TypeError, r"value has dtype"),
        ({"query": torch.zeros(2, 3, 5, 8).int()}, TypeError, r"query has dtype"),
        ({"value": torch.zeros(2, 3, 7, 6, device="meta")}, ValueError, r"value is on meta"),
        ({"visible": torch.tensor([7, 7, 7])}, ValueError, r"visible has shape .*3"),
        ({"visible": torch.ones(2, 7).long()}, ValueError, r"visible has shape .*2, 7"),
        ({"visible": torch.ones(2)}, TypeError, r"visible has dtype"),
        ({"visible": torch.tensor([7, 8])}, ValueError, r"visible has .*8.* expected 0 to 7"),
        ({"visible": torch.tensor([7, -1])}, ValueError, r"visible has .*-1.* expected 0 to 7"),
        ({"query_lengths": torch.tensor([5])}, ValueError, r"query_lengths has shape .*1"),
        ({"query_lengths": torch.tensor([5, 6])}, ValueError, r"query_lengths has .*6.* 0 to 5"),
        ({"dropout_p": 1.0}, ValueError, r"dropout_p is 1"),
        ({"dropout_p": -0.1}, ValueError, r"dropout_p is -0.1"),
        ({"dropout_p": 0.5, "seed": torch.tensor([1])}, ValueError, r"seed has shape"),
    ],
)
def test_bad_input(
    path: str,
    device: torch.device,
    changes: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    arguments = {name: beside(device, value) for name, value in _bad(**changes).items()}
    with pytest.raises(error, match=message):
        attention(**arguments)
