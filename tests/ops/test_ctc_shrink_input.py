"""ctc_shrink: what bad input gets."""

import pytest
import torch

from stk.ops import ctc_shrink
from tests.ops.bad_input import beside

GOOD = {
    "states": torch.zeros(2, 4, 3),
    "scores_or_labels": torch.zeros(2, 4, 5),
    "lengths": torch.tensor([4, 2]),
}
BAD = [
    ({"states": torch.zeros(4, 3)}, ValueError, r"states.*\(4, 3\)"),
    ({"states": torch.zeros(2, 4, 3, dtype=torch.int64)}, TypeError, "states.*int64"),
    ({"scores_or_labels": torch.zeros(2, 4)}, ValueError, r"scores_or_labels.*\(2, 4, V\)"),
    ({"scores_or_labels": torch.zeros(2, 3, 5)}, ValueError, r"scores_or_labels.*\(2, 3, 5\)"),
    ({"scores_or_labels": torch.zeros(2, 4, 5, dtype=torch.bool)}, TypeError, "scores_or_labels"),
    ({"scores_or_labels": torch.full((2, 4, 5), torch.nan)}, ValueError, "non-finite"),
    ({"scores_or_labels": torch.full((2, 4, 5), torch.inf)}, ValueError, "non-finite"),
    ({"scores_or_labels": torch.full((2, 4, 5), -torch.inf)}, ValueError, "non-finite"),
    ({"lengths": torch.tensor([4])}, ValueError, r"lengths.*\(2,\)"),
    ({"lengths": torch.tensor([5, 4])}, ValueError, "lengths.*5"),
    ({"lengths": torch.tensor([4, -1])}, ValueError, "lengths.*-1"),
    ({"lengths": torch.tensor([4.0, 2.0])}, TypeError, "lengths"),
    ({"lengths": torch.empty(2, dtype=torch.int64, device="meta")}, ValueError, "lengths.*meta"),
    ({"blank": 5}, ValueError, "blank.*5"),
    ({"blank": -1}, ValueError, "blank.*-1"),
    ({"reduce": "last"}, ValueError, "reduce.*last"),
    ({"blanks": "keep"}, ValueError, "blanks.*keep"),
    (
        {"reduce": "weighted", "scores_or_labels": torch.zeros(2, 4, dtype=torch.int64)},
        ValueError,
        "weighted.*scores",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_gets_a_message(
    path: str, device: torch.device, change: dict, error: type, message: str
) -> None:
    arguments = {name: beside(device, value) for name, value in {**GOOD, **change}.items()}
    with pytest.raises(error, match=message):
        ctc_shrink(
            arguments.pop("states"),
            arguments.pop("scores_or_labels"),
            arguments.pop("lengths"),
            **arguments,
        )


def test_bad_input_to_the_operator_itself(kernel) -> None:
    """Someone who calls torch.ops.stk directly gets a message too, never a crash."""
    options = {"blank": 0, "reduce": "mean", "blanks": "drop"}
    for change, error, message in BAD:
        if "meta" in message:
            continue  # a meta tensor sends the call to the shape function
        tensors = {**GOOD, **{name: value for name, value in change.items() if name in GOOD}}
        rest = {**options, **{name: value for name, value in change.items() if name in options}}
        with pytest.raises(error):
            torch.ops.stk.ctc_shrink(*tensors.values(), **rest)


def test_a_map_that_no_forward_gives_stays_in_bounds(kernel) -> None:
    segments, weights = torch.tensor([[-1, 700_000_000, 0]]), torch.ones(1, 3)
    grad, states, scores = torch.ones(1, 3, 2), torch.ones(1, 3, 2), torch.ones(1, 3, 4)
    backward = torch.ops.stk.ctc_shrink_backward
    for pair in ((None, None), (states, scores)):
        slopes = backward(grad, *pair, segments, weights)[0]
        assert slopes.tolist() == [[[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]]
