"""fbank: what bad input gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stk.ops import fbank
from tests.ops.bad_input import beside
from tests.ops.fbank_cases import arguments

WAVE, LENGTHS = torch.zeros(2, 1000), torch.tensor([1000, 900])
BAD_CALLS: list[tuple[type[Exception], str, tuple[Tensor, Tensor], dict[str, Any]]] = [
    (ValueError, r"waveforms has shape \(1000,\) but expected \(B, N\)", (WAVE[0], LENGTHS), {}),
    (TypeError, "waveforms has dtype torch.float16", (WAVE.half(), LENGTHS), {}),
    (TypeError, "lengths has dtype torch.int32", (WAVE, LENGTHS.int()), {}),
    (ValueError, r"lengths has shape \(1,\) but expected \(2,\)", (WAVE, LENGTHS[:1]), {}),
    (ValueError, r"lengths\[0\] is 1201 but expected 0 to 1000", (WAVE, LENGTHS * 2 - 799), {}),
    (ValueError, r"lengths\[0\] is -1 but", (WAVE, LENGTHS - 1001), {}),
    (ValueError, "window must be one of povey", (WAVE, LENGTHS), {"window": "sine"}),
    (ValueError, "num_mel_bins must be at least 1", (WAVE, LENGTHS), {"num_mel_bins": 0}),
    (ValueError, "frame_shift must span", (WAVE, LENGTHS), {"frame_shift": 0.0}),
    (ValueError, "frame_length must span at least", (WAVE, LENGTHS), {"frame_length": 0.01}),
    (ValueError, "frame_length must span at most", (WAVE, LENGTHS), {"frame_length": 600.0}),
    (ValueError, "high_freq must not be above", (WAVE, LENGTHS), {"high_freq": 9000.0}),
    (ValueError, "low_freq must lie in", (WAVE, LENGTHS), {"low_freq": 8000.0}),
    (ValueError, "dither must not be negative", (WAVE, LENGTHS), {"dither": -1.0}),
    (ValueError, "preemphasis must lie", (WAVE, LENGTHS), {"preemphasis": 1.5}),
    (ValueError, "scale must be positive", (WAVE, LENGTHS), {"scale": 0.0}),
    (ValueError, "cmvn is 'speaker' but", (WAVE, LENGTHS), {"cmvn": "speaker"}),
    (ValueError, "cmvn mean has shape", (WAVE, LENGTHS), {"cmvn": (WAVE[0], WAVE[0])}),
    (ValueError, "seed has shape", (WAVE, LENGTHS), {"dither": 1.0, "seed": LENGTHS}),
    (ValueError, "forward only", (WAVE.clone().requires_grad_(), LENGTHS), {}),
]


@pytest.mark.parametrize("error, message, inputs, options", BAD_CALLS, ids=lambda x: str(x)[:40])
def test_bad_input(
    path: str,
    device: torch.device,
    error: type[Exception],
    message: str,
    inputs: tuple[Tensor, Tensor],
    options: dict[str, Any],
) -> None:
    inputs = beside(device, inputs)
    options = {name: beside(device, value) for name, value in options.items()}
    with pytest.raises(error, match=message):
        fbank(*inputs, **options)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "wrong",
    [
        (WAVE[0], LENGTHS, {}),
        (WAVE.half(), LENGTHS, {}),
        (WAVE, LENGTHS + 500, {}),
        (WAVE, LENGTHS[:1], {}),
        (WAVE, LENGTHS.int(), {}),
        (WAVE, LENGTHS, {"frame_length": 1e9}),
        (WAVE, LENGTHS, {"frame_shift": float("nan")}),
        (WAVE, LENGTHS, {"num_mel_bins": -1}),
        (WAVE, LENGTHS, {"window": "none"}),
    ],
    ids=lambda x: str(x[2]),
)
def test_the_bare_operator_checks_too(wrong: tuple[Tensor, Tensor, dict[str, Any]]) -> None:
    positional, options = arguments(wrong[0], wrong[1], **wrong[2])
    with pytest.raises((ValueError, TypeError), match="stk::fbank: "):
        torch.ops.stk.fbank(*positional, **options)
