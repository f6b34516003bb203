"""Length formulas against the convolutions they describe."""

import pytest
import torch

from stk.modules.lengths import LengthFormula
from stk.modules.subsampling import Conv1dSubsampler, Conv2dSubsampler

WAV2VEC2 = LengthFormula(((10, 5, 0), *((3, 2, 0),) * 4, *((2, 2, 0),) * 2))


@pytest.mark.parametrize("frames", range(1, 40))
def test_two_halvings_give_a_quarter_rounded_up(frames: int) -> None:
    lengths = Conv1dSubsampler(4, 4, channels=4).lengths
    assert lengths(frames) == -(-frames // 4)
    assert Conv2dSubsampler(4, 4, channels=2).lengths(frames) == -(-frames // 4)


@pytest.mark.parametrize(
    "layers", [((5, 2, 2),), ((3, 2, 1), (3, 2, 1)), ((3, 2, 0), (4, 3, 1)), WAV2VEC2.layers]
)
def test_formula_matches_convolutions(layers: tuple[tuple[int, int, int], ...]) -> None:
    formula = LengthFormula(layers)
    for count in (400, 401, 479, 1000, 1023):
        x = torch.zeros(1, 1, count)
        for kernel, stride, padding in layers:
            x = torch.nn.functional.conv1d(
                x, torch.zeros(1, 1, kernel), stride=stride, padding=padding
            )
        assert formula(count) == x.shape[2]
        assert formula(torch.tensor([count])).tolist() == [x.shape[2]]


def test_known_values() -> None:
    assert WAV2VEC2(16000) == 49
    assert LengthFormula(((5, 2, 2),) * 2)(1000) == 250
    assert LengthFormula()(7) == 7


def test_nothing_stays_nothing_and_too_short_is_nothing() -> None:
    formula = LengthFormula(((5, 2, 2),))
    assert formula(0) == 0
    assert formula(torch.tensor([0, 1])).tolist() == [0, 1]
    assert WAV2VEC2(5) == 0
    assert WAV2VEC2(torch.tensor([5, 400])).tolist() == [0, 1]
