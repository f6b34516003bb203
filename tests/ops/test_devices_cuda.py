"""Arguments on different devices: a message, never a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stk.ops import attention, ctc_shrink, fbank, gumbel_vq, gumbel_vq_linear

pytestmark = pytest.mark.cuda

CODEBOOK = torch.zeros(2, 5, 3)
CALLS: list[tuple[Callable[..., Any], dict[str, Tensor], dict[str, Any]]] = [
    (fbank, {"waveforms": torch.zeros(2, 1000), "lengths": torch.tensor([1000, 900])}, {}),
    (
        ctc_shrink,
        {
            "states": torch.zeros(2, 4, 3),
            "scores_or_labels": torch.zeros(2, 4, 5),
            "lengths": torch.tensor([4, 2]),
        },
        {},
    ),
    (gumbel_vq, {"logits": torch.zeros(4, 2, 5), "codebook": CODEBOOK}, {"tau": 1.0}),
    (
        gumbel_vq_linear,
        {
            "hidden": torch.zeros(4, 6),
            "weight": torch.zeros(10, 6),
            "bias": torch.zeros(10),
            "codebook": CODEBOOK,
        },
        {"tau": 1.0},
    ),
    (
        attention,
        {
            "query": torch.zeros(2, 3, 5, 8),
            "key": torch.zeros(2, 3, 7, 8),
            "value": torch.zeros(2, 3, 7, 8),
            "visible": torch.tensor([7, 3]),
            "query_lengths": torch.tensor([5, 2]),
        },
        {},
    ),
]
CASES = [(*call, name) for call in CALLS for name in call[1]]


@pytest.mark.parametrize(
    ("function", "tensors", "options", "alone"), CASES, ids=lambda x: getattr(x, "__name__", None)
)
def test_one_argument_elsewhere(
    function: Callable[..., Any], tensors: dict[str, Tensor], options: dict[str, Any], alone: str
) -> None:
    for left, other in (("cpu", "cuda"), ("cuda", "cpu")):
        placed = {
            name: tensor.to(left if name == alone else other) for name, tensor in tensors.items()
        }
        with pytest.raises(ValueError, match=r"\bon (cpu|cuda)"):
            function(**placed, **options)


@pytest.mark.parametrize("name", ["tau", "seed", "offset"])
def test_scalars_on_a_gpu_beside_inputs_that_are_not(name: str) -> None:
    scalars: dict[str, Any] = {"tau": torch.tensor(1.0), "seed": torch.tensor(1)}
    scalars["offset"] = torch.tensor(2)
    scalars[name] = scalars[name].cuda()
    with pytest.raises(ValueError, match="logits is on cpu|on cuda"):
        gumbel_vq(torch.zeros(4, 2, 5), CODEBOOK, **scalars)
