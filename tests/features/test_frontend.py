"""The front end: numbers of frames, CMVN, masks, independence of the batch."""

from __future__ import annotations

import pickle

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch

from stk.config.run import AugmentConfig, FeatureConfig
from stk.errors import StkError
from stk.features.cmvn import Cmvn, CmvnAccumulator
from stk.features.frontend import FrontEnd

LENGTHS = (400, 559, 560, 16000, 40123)


def clips(seed=0):
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy(rng.standard_normal(n).astype(np.float32).clip(-9, 9) * 0.1)
        for n in LENGTHS
    ]


def generators():
    return [np.random.default_rng(i) for i in range(len(LENGTHS))]


def statistics(config, features):
    total = CmvnAccumulator(config.num_mel_bins)
    for part in features:
        total.add(part)
    return total.result(config)


@pytest.mark.parametrize("kind", ["fbank", "waveform"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_frames_foretells_the_lengths(kind, rate):
    frontend = FrontEnd(FeatureConfig(kind=kind, sample_rate=rate, cmvn="none"))
    waveforms = clips()
    lengths = frontend(waveforms).lengths.tolist()
    for waveform, length in zip(waveforms, lengths, strict=True):
        frames = frontend.frames(len(waveform) / rate)
        assert frames == (length if kind == "fbank" else length // (rate // 100))
    assert frontend.frames(0.024) == (0 if kind == "fbank" else 2) and frontend.frames(0) == 0


def test_features_are_kaldis():
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    waveform = clips()[4]
    oracle = knf.OnlineFbank(options)
    oracle.accept_waveform(16000, (waveform * 32768).tolist())
    oracle.input_finished()
    expected = np.stack([oracle.get_frame(i) for i in range(oracle.num_frames_ready)])
    found = FrontEnd(FeatureConfig(cmvn="none"))([waveform]).data[0].numpy()
    assert found.shape == expected.shape and np.abs(found - expected).max() < 5e-3


@pytest.mark.parametrize("cmvn", ["none", "utterance"])
@pytest.mark.parametrize("augment", [None, AugmentConfig(specaugment="ld")])
def test_a_clip_does_not_depend_on_its_batch(cmvn, augment):
    frontend = FrontEnd(FeatureConfig(cmvn=cmvn, dither=1.0))
    together = frontend(clips(), generators(), augment)
    for i, waveform in enumerate(clips()):
        alone = frontend([waveform], [np.random.default_rng(i)], augment)
        length = int(together.lengths[i])
        assert torch.allclose(together.data[i, :length], alone.data[0], atol=1e-5)
        assert (together.data[i, length:] == 0).all()  # padding: never masked, never noise


def test_utterance_cmvn():
    source = FrontEnd(FeatureConfig())(clips())
    for row, length in zip(source.data, source.lengths.tolist(), strict=True):
        if length > 2:
            assert row[:length].mean(0).abs().max() < 1e-3
            assert (row[:length].std(0, correction=0) - 1).abs().max() < 1e-2


def test_global_cmvn_is_mean_and_deviation_over_all_frames(tmp_path):
    plain = FrontEnd(FeatureConfig(cmvn="none"))(clips())
    parts = [row[:n] for row, n in zip(plain.data, plain.lengths.tolist(), strict=True)]
    config = FeatureConfig(cmvn="global", cmvn_file=str(tmp_path / "cmvn.safetensors"))
    cmvn = statistics(config, parts)
    whole = torch.cat(parts).double()
    assert torch.allclose(cmvn.mean.double(), whole.mean(0), atol=1e-6)
    assert torch.allclose(1 / cmvn.inverse_std.double(), whole.std(0, correction=0), atol=1e-6)
    assert cmvn.frames == len(whole)
    cmvn.save(tmp_path / "cmvn.safetensors")
    frontend = pickle.loads(pickle.dumps(FrontEnd(config)))
    source = frontend(clips())
    for row, part in zip(source.data, parts, strict=True):
        assert torch.allclose(row[: len(part)], cmvn.apply(part), atol=1e-4)
        assert (row[len(part) :] == 0).all()


def test_statistics_that_do_not_fit(tmp_path):
    config = FeatureConfig(cmvn="global", cmvn_file=str(tmp_path / "c"))
    with pytest.raises(StkError, match="no such CMVN file"):
        FrontEnd(config)
    (tmp_path / "c").write_bytes(b"nonsense")
    with pytest.raises(StkError, match="not a CMVN file"):
        FrontEnd(config)
    other = statistics(FeatureConfig(num_mel_bins=40), [torch.randn(9, 40)])
    other.save(tmp_path / "c")
    with pytest.raises(StkError, match="over other features"):
        FrontEnd(config)
    with pytest.raises(StkError, match=r"features\.cmvn is utterance"):
        FrontEnd(FeatureConfig(), Cmvn.load(tmp_path / "c"))
    with pytest.raises(StkError, match="at least two frames"):
        statistics(config, [])


def test_augmentation_acts_only_where_asked():
    frontend = FrontEnd(FeatureConfig(dither=1.0))
    quiet = frontend(clips())
    assert torch.equal(quiet.data, frontend(clips(), generators()).data)
    loud = frontend(clips(), generators(), AugmentConfig(specaugment="lb"))
    again = frontend(clips(), generators(), AugmentConfig(specaugment="lb"))
    assert torch.equal(loud.data, again.data) and not torch.equal(loud.data, quiet.data)
    with pytest.raises(ValueError, match="generator"):
        frontend(clips(), None, AugmentConfig())


def test_masks_hold_the_mean_where_there_is_no_cmvn():
    frontend = FrontEnd(FeatureConfig(cmvn="none"))
    augment = AugmentConfig(specaugment="custom", freq_masks=4, freq_width=80)
    plain, masked = frontend(clips()), frontend(clips(), generators(), augment)
    changed = masked.data != plain.data
    for i, length in enumerate(plain.lengths.tolist()):
        mean = plain.data[i, :length].mean()
        assert changed[i].any() and torch.allclose(masked.data[i][changed[i]], mean)


@pytest.mark.parametrize("kind", ["fbank", "waveform"])
def test_a_clip_without_a_frame_is_an_error(kind):
    frontend = FrontEnd(FeatureConfig(kind=kind, cmvn="none"))
    with pytest.raises(StkError, match="shorter than one frame"):
        frontend([torch.zeros(16000), torch.zeros(399 if kind == "fbank" else 0)])


def test_waveforms_are_handed_on_or_standardised():
    source = FrontEnd(FeatureConfig(kind="waveform", cmvn="none"))(clips())
    assert source.data.shape == (5, 40123) and torch.equal(source.data[3, :16000], clips()[3])
    config = FeatureConfig(kind="waveform", cmvn="none", normalize_waveform=True)
    row = FrontEnd(config)(clips()).data[3, :16000]
    x = clips()[3]
    expected = torch.nn.functional.layer_norm(x, x.shape)
    assert torch.allclose(row, expected, atol=1e-5)
