"""SpecAugment and speed perturbation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stk.config.run import AugmentConfig
from stk.errors import StkError
from stk.features.specaugment import Policy, policy_of, specaugment_
from stk.features.speed import change_speed


def masks(policy, length=300, bins=80, seeds=range(300)):
    """Widths of masked bins and masked frames over many draws."""
    wide, long = [], []
    for seed in seeds:
        features = torch.ones(length + 20, bins)
        specaugment_(features, length, policy, np.random.default_rng(seed))
        assert (features[length:] == 1).all()
        wide.append(int((features[:length] == 0).all(0).sum()))
        long.append(int((features[:length] == 0).all(1).sum()))
    return np.array(wide), np.array(long)


def test_published_policies():
    assert policy_of(AugmentConfig()) is None
    lb = policy_of(AugmentConfig(specaugment="lb"))
    ld = policy_of(AugmentConfig(specaugment="ld"))
    assert lb == Policy(freq_masks=1, freq_width=27, time_masks=1, time_width=100)
    assert ld == Policy(freq_masks=2, freq_width=27, time_masks=2, time_width=100)


def test_widths_are_uniform_up_to_the_widest():
    wide, long = masks(policy_of(AugmentConfig(specaugment="lb")), seeds=range(1500))
    assert wide.min() == 0 and wide.max() == 27 and wide.mean() == pytest.approx(13.5, abs=0.7)
    assert long.min() == 0 and long.max() == 100 and long.mean() == pytest.approx(50, abs=2.5)


def test_two_masks_and_the_share_of_a_clip():
    wide, long = masks(policy_of(AugmentConfig(specaugment="ld")))
    assert 27 < wide.max() <= 54 and 100 < long.max() <= 200
    _, short = masks(policy_of(AugmentConfig(specaugment="lb", time_mask_share=0.2)), length=50)
    assert short.max() == 10


@pytest.mark.parametrize("length", [0, 1, 2])
def test_the_shortest_clips(length):
    features = torch.ones(3, 80)
    specaugment_(
        features, length, policy_of(AugmentConfig(specaugment="ld")), np.random.default_rng(0)
    )
    assert (features[length:] == 1).all()


def test_bad_policies():
    for keys in ({"freq_masks": -1}, {"time_mask_share": 1.5}):
        with pytest.raises(StkError, match="augment"):
            policy_of(AugmentConfig(specaugment="custom", **keys))


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_length_and_pitch(factor):
    t = torch.arange(16000) / 16000
    changed = change_speed(torch.sin(2 * torch.pi * 440 * t), factor)
    assert changed.dtype == torch.float32 and len(changed) == round(16000 / factor)
    middle = changed[2000:12000].numpy()
    peak = np.abs(np.fft.rfft(middle * np.hanning(10000))).argmax() * 1.6
    assert peak == pytest.approx(440 * factor, abs=2)
    assert np.sqrt(2 * (middle**2).mean()) == pytest.approx(1.0, rel=0.01)


def test_factor_one_changes_nothing_and_others_are_bounded():
    waveform = torch.randn(100)
    assert change_speed(waveform, 1.0) is waveform
    for factor in (0.1, 3.0):
        with pytest.raises(StkError, match="outside 0.5 to 2"):
            change_speed(waveform, factor)
