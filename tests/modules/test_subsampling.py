"""Subsamplers."""

import pytest
import torch

from stk.modules.subsampling import Conv1dSubsampler, Conv2dSubsampler

MAKERS = {
    "conv1d": lambda: Conv1dSubsampler(6, 8, channels=12),
    "conv1d_three": lambda: Conv1dSubsampler(6, 8, channels=12, kernels=(3, 5, 3)),
    "conv2d": lambda: Conv2dSubsampler(6, 8, channels=5),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("garbage", [0.0, 7.0, float("nan")])
def test_neighbours_and_padding_do_not_matter(name: str, garbage: float) -> None:
    torch.manual_seed(1)
    module = MAKERS[name]().double()
    lengths = torch.tensor([23, 1, 9, 16])
    frames = torch.randn(4, 23, 6, dtype=torch.float64)
    for row, length in zip(frames, lengths.tolist(), strict=True):
        row[length:] = garbage
    states, out_lengths = module(frames, lengths)
    assert out_lengths.tolist() == [module.lengths(n) for n in lengths.tolist()]
    for i, length in enumerate(lengths.tolist()):
        alone, _ = module(frames[i : i + 1, :length], lengths[i : i + 1])
        assert alone.shape[1] == int(out_lengths[i])
        torch.testing.assert_close(states[i, : alone.shape[1]], alone[0], rtol=1e-9, atol=1e-9)


def test_conv1d_equals_speech2text() -> None:
    from transformers import Speech2TextConfig
    from transformers.models.speech_to_text.modeling_speech_to_text import Conv1dSubsampler as HF

    torch.manual_seed(1)
    theirs = HF(Speech2TextConfig(input_feat_per_channel=6, conv_channels=12, d_model=8))
    ours = Conv1dSubsampler(6, 8, channels=12)
    for mine, other in zip(ours.convolutions, theirs.conv_layers, strict=True):
        mine.load_state_dict(other.state_dict())
    frames = torch.randn(2, 21, 6)
    torch.testing.assert_close(ours(frames, torch.tensor([21, 21]))[0], theirs(frames))


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be odd"):
        Conv1dSubsampler(6, 8, kernels=(4, 5))
