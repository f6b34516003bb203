"""gumbel_vq and gumbel_vq_linear: what bad input gets."""

import pytest
import torch

from stk.ops import gumbel_vq, gumbel_vq_linear
from tests.ops.bad_input import beside

GOOD = {"logits": torch.zeros(4, 2, 5), "codebook": torch.zeros(2, 5, 3), "tau": 1.0}
BAD = [
    ({"logits": torch.zeros(4, 10)}, ValueError, r"logits.*\(4, 10\)"),
    ({"logits": torch.zeros(4, 2, 5, dtype=torch.int64)}, TypeError, "logits.*int64"),
    ({"logits": torch.full((4, 2, 5), torch.nan)}, ValueError, "logits.*finite"),
    ({"logits": torch.full((4, 2, 5), -torch.inf)}, ValueError, "logits.*finite"),
    ({"logits": torch.zeros(4, 2, 5, device="meta")}, ValueError, "codebook.*meta"),
    ({"codebook": torch.zeros(2, 6, 3)}, ValueError, r"codebook.*\(2, 5, d\).*\(2, 6, 3\)"),
    ({"codebook": torch.zeros(2, 5)}, ValueError, "codebook"),
    ({"codebook": torch.zeros(2, 5, 0)}, ValueError, "codebook.*empty"),
    ({"codebook": torch.zeros(2, 5, 3, dtype=torch.int32)}, TypeError, "codebook.*int32"),
    ({"tau": 0.0}, ValueError, "tau.*> 0"),
    ({"tau": -1.0}, ValueError, "tau.*> 0"),
    ({"tau": float("nan")}, ValueError, "tau.*> 0"),
    ({"tau": torch.tensor([1.0])}, ValueError, "tau.*0-dim"),
    ({"seed": torch.tensor(1.0)}, ValueError, "seed"),
    ({"offset": torch.tensor([1])}, ValueError, "offset"),
]
GOOD_LINEAR = {
    "hidden": torch.zeros(4, 6),
    "weight": torch.zeros(10, 6),
    "bias": torch.zeros(10),
    "codebook": torch.zeros(2, 5, 3),
    "tau": 1.0,
}
BAD_LINEAR = [
    ({"hidden": torch.zeros(4, 2, 6)}, ValueError, "hidden"),
    ({"hidden": torch.zeros(4, 7)}, ValueError, r"weight.*\(10, 7\)"),
    ({"hidden": torch.full((4, 6), torch.inf)}, ValueError, "finite"),
    ({"weight": torch.zeros(9, 6)}, ValueError, r"weight.*\(9, 6\)"),
    ({"weight": torch.zeros(10, 6).half()}, TypeError, "weight.*float16"),
    ({"bias": torch.zeros(9)}, ValueError, r"bias.*\(10,\)"),
    ({"codebook": torch.zeros(2, 0, 3)}, ValueError, "codebook.*empty"),
    ({"tau": 0}, ValueError, "tau.*> 0"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_gets_a_message(
    path: str, device: torch.device, change: dict, error: type, message: str
) -> None:
    arguments = {name: beside(device, value) for name, value in {**GOOD, **change}.items()}
    with pytest.raises(error, match=message):
        gumbel_vq(arguments.pop("logits"), arguments.pop("codebook"), **arguments)


@pytest.mark.parametrize(("change", "error", "message"), BAD_LINEAR)
def test_bad_linear_input(
    path: str, device: torch.device, change: dict, error: type, message: str
) -> None:
    arguments = {name: beside(device, value) for name, value in {**GOOD_LINEAR, **change}.items()}
    tensors = [arguments.pop(name) for name in ("hidden", "weight", "bias", "codebook")]
    with pytest.raises(error, match=message):
        gumbel_vq_linear(*tensors, **arguments)


def test_bad_input_to_the_operators_themselves(kernel) -> None:
    """Someone who calls torch.ops.stk directly gets a message too, never a crash."""
    for good, bad, operator in (
        (GOOD, BAD, torch.ops.stk.gumbel_vq),
        (GOOD_LINEAR, BAD_LINEAR, torch.ops.stk.gumbel_vq_linear),
    ):
        for change, error, message in bad:
            if set(change) - set(good) or "meta" in message or "0-dim" in message:
                continue
            values = {**good, **change}
            tau = torch.tensor(float(values.pop("tau")))
            zero = torch.tensor(0)
            with pytest.raises(error):
                operator(*values.values(), tau, zero, zero, training=True)
