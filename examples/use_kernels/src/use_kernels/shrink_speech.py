"""Waveforms to features with ``fbank``, frames to segments with ``ctc_shrink``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stk.ops import ctc_shrink, fbank


class ShrinkingEncoder(nn.Module):
    """Features -> states and CTC scores -> one vector for each run of equal labels."""

    def __init__(self, labels: int, width: int = 64) -> None:
        super().__init__()
        self.states = nn.Linear(80, width)
        self.scores = nn.Linear(width, labels)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features = fbank(waveforms, lengths, cmvn="utterance")
        states = torch.tanh(self.states(features.features))
        shrunk = ctc_shrink(states, self.scores(states), features.lengths, reduce="mean")
        return shrunk.states, shrunk.lengths


def main() -> None:
    """Shrink a second of noise and train on it once."""
    torch.manual_seed(0)
    encoder = ShrinkingEncoder(labels=12)
    waveforms, lengths = 0.1 * torch.randn(2, 16000), torch.tensor([16000, 12000])
    states, counts = encoder(waveforms, lengths)
    states.square().sum().backward()
    gradient = encoder.states.weight.grad
    assert gradient is not None and bool(gradient.isfinite().all())
    first, second = counts.tolist()
    print(f"98 and 73 frames became {first} and {second} segments of {states.shape[2]} values")


if __name__ == "__main__":
    main()
