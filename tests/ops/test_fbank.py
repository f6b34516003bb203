"""fbank: the kernel against the reference, and both against torchaudio and kaldi-native-fbank."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stk.ops import _library, fbank
from stk.ops.reference.fbank import CMVN_EPSILON
from stk.ops.reference.fbank import fbank as reference
from tests.ops.fbank_cases import OPTIONS, TOLERANCE, arguments, assert_same, noise, speech

needs_kernel = pytest.mark.usefixtures("kernel")


def kaldi_native(wave: Tensor) -> Tensor:
    """(T, 80) features of one clip by kaldi-native-fbank."""
    native = pytest.importorskip("kaldi_native_fbank")
    options = native.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    options.energy_floor = 0.0
    computer = native.OnlineFbank(options)
    computer.accept_waveform(16000, (wave * 32768.0).tolist())
    computer.input_finished()
    count = computer.num_frames_ready
    return torch.stack([torch.from_numpy(computer.get_frame(i).copy()) for i in range(count)])


@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_no_farther_from_the_exact_value_than_kaldi(kind: str) -> None:
    wave = speech(10.0) if kind == "speech" else noise(160000)
    lengths = torch.tensor([wave.numel()])
    ours = fbank(wave[None], lengths).features[0]
    exact = reference(wave[None].double(), lengths).features[0]
    kaldi = kaldi_native(wave)
    torch.testing.assert_close(ours, kaldi, atol=2e-3, rtol=0)
    assert (ours - exact).abs().max() <= (kaldi - exact).abs().max()
    assert (ours - exact).square().mean() <= (kaldi - exact).square().mean()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_agree_with_torchaudio(options: dict[str, Any]) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    wave = torch.stack((speech(1.2), noise(19200))) + 0.01
    lengths = torch.tensor([19200, 16111])
    got = fbank(wave.double(), lengths, **options)
    names = {"sample_rate": "sample_frequency", "window": "window_type"}
    names["preemphasis"] = "preemphasis_coefficient"
    theirs = {"num_mel_bins": 80} | {names.get(name, name): v for name, v in options.items()}
    for row in range(2):
        clip = wave[row : row + 1, : lengths[row]].double() * 32768.0
        expected = kaldi.fbank(clip, dither=0.0, **theirs)
        assert got.lengths[row] == expected.shape[0]
        # torchaudio computes its triangles and windows in fp32.
        count = expected.shape[0]
        torch.testing.assert_close(got.features[row, :count], expected, atol=2e-3, rtol=0)
        assert not got.features[row, count:].any()


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_kernel_agrees_with_the_reference(options: dict[str, Any], dtype: torch.dtype) -> None:
    wave = torch.stack((speech(0.9), noise(14400), speech(0.9, seed=1)))
    wave = (wave * 20000).to(dtype) if dtype == torch.int16 else wave.to(dtype)
    lengths = torch.tensor([14400, 9001, 0])
    expected = reference(wave, lengths, **options)
    assert_same(fbank(wave, lengths, **options), expected, TOLERANCE[expected.features.dtype])


@needs_kernel
@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("bins", [1, 7, 8, 9, 80])
def test_adversarial_lengths(snip_edges: bool, bins: int) -> None:
    # Around one window, around blocks of eight frames, and clips shorter than what is mirrored.
    edges = [0, 1, 2, 79, 80, 81, 100, 399, 400, 401, 559, 560, 561]
    edges += [400 + 160 * 7 - 1, 400 + 160 * 7, 400 + 160 * 8 - 1, 400 + 160 * 8, 400 + 160 * 16]
    lengths = torch.tensor(edges)
    for samples in (max(edges), 3000):
        wave = noise(len(edges), samples, seed=samples)
        options: dict[str, Any] = {"snip_edges": snip_edges, "num_mel_bins": bins}
        expected = reference(wave, lengths, **options)
        assert_same(fbank(wave, lengths, **options), expected, TOLERANCE[torch.float32])


@pytest.mark.parametrize("shape", [(0, 1000), (2, 0), (2, 399), (0, 0)])
def test_empty_inputs(shape: tuple[int, int]) -> None:
    output = fbank(torch.zeros(shape), torch.full((shape[0],), shape[1]))
    assert output.features.shape == (shape[0], 4 if shape[1] == 1000 else 0, 80)
    assert output.lengths.dtype == torch.int64 and not output.lengths.any()


def test_padding_and_batch_do_not_matter() -> None:
    wave, lengths = noise(3, 8000), torch.tensor([8000, 5123, 4000])
    batch = fbank(wave, lengths)
    dirty = wave.clone()
    for row, length in enumerate(lengths.tolist()):
        dirty[row, length:] = float("nan")
        alone = fbank(wave[row : row + 1, :length], lengths[row : row + 1])
        count = int(alone.lengths[0])
        assert torch.equal(alone.features[0], batch.features[row, :count])
    assert torch.equal(fbank(dirty, lengths).features, batch.features)
    assert torch.equal(
        fbank(dirty, lengths, snip_edges=False).features,
        fbank(wave, lengths, snip_edges=False).features,
    )


def test_strided_waveforms() -> None:
    wave, lengths = noise(4000, 4), torch.tensor([4000, 3000, 2000, 1000])
    expected = fbank(wave.t().contiguous(), lengths)
    assert torch.equal(fbank(wave.t(), lengths).features, expected.features)
    wide = torch.stack((lengths, -lengths), 1)[:, 0]
    assert torch.equal(fbank(wave.t(), wide).features, expected.features)


def test_threads_do_not_change_a_bit() -> None:
    wave, lengths = noise(5, 9000), torch.tensor([9000, 8000, 400, 0, 7777])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fbank(wave, lengths, cmvn="utterance").features
        torch.set_num_threads(2)
        assert torch.equal(fbank(wave, lengths, cmvn="utterance").features, one)
    finally:
        torch.set_num_threads(before)


def test_int16_stands_for_a_fraction_of_full_scale() -> None:
    wave, lengths = (noise(2, 4000) * 3000).to(torch.int16), torch.tensor([4000, 3000])
    assert torch.equal(fbank(wave, lengths).features, fbank(wave / 32768.0, lengths).features)


def test_infinite_and_nan_samples_show() -> None:
    wave = noise(2, 2000)
    wave[0, 1000], wave[1, 1000] = float("nan"), float("inf")
    features = fbank(wave, torch.tensor([2000, 2000])).features
    assert not features[:, 5].isfinite().any() and features[:, 0].isfinite().all()


def test_utterance_cmvn() -> None:
    wave, lengths = noise(3, 9000), torch.tensor([9000, 4000, 200])
    plain = fbank(wave, lengths)
    output = fbank(wave, lengths, cmvn="utterance")
    for row in range(2):
        rows = plain.features[row, : plain.lengths[row]].double()
        expected = (rows - rows.mean(0)) / torch.sqrt(rows.var(0, unbiased=False) + CMVN_EPSILON)
        got = output.features[row, : plain.lengths[row]]
        torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=0)
    assert not output.features[1, output.lengths[1] :].any() and not output.features[2].any()
    silent = fbank(torch.zeros(1, 4000), torch.tensor([4000]), cmvn="utterance")
    assert not silent.features.any()


def test_global_cmvn() -> None:
    wave, lengths = noise(2, 9000), torch.tensor([9000, 4000])
    mean, istd = torch.randn(80, dtype=torch.float64), torch.rand(80, dtype=torch.float64) + 0.5
    plain, output = fbank(wave, lengths), fbank(wave, lengths, cmvn=(mean, istd))
    real = torch.arange(plain.features.shape[1]) < plain.lengths[:, None]
    expected = ((plain.features - mean.float()) * istd.float()) * real[..., None]
    torch.testing.assert_close(output.features, expected, atol=1e-5, rtol=1e-6)


def test_dither_is_the_same_noise_everywhere() -> None:
    wave, lengths = noise(2, 3000), torch.tensor([3000, 2500])
    options: dict[str, Any] = {"dither": 2.0, "seed": -(2**40) + 3, "offset": 2**33}
    got, expected = fbank(wave, lengths, **options), reference(wave, lengths, **options)
    torch.testing.assert_close(got.features, expected.features, atol=1e-4, rtol=0)
    tensors = options | {"seed": torch.tensor(options["seed"]), "offset": torch.tensor(2**33)}
    assert torch.equal(fbank(wave, lengths, **tensors).features, got.features)
    other = fbank(wave, lengths, **(options | {"offset": 1}))
    assert (other.features - got.features).abs().max() > 1e-2


def test_dither_has_the_stated_deviation() -> None:
    # Without mean removal, emphasis and window, the summed power of silence is the noise's.
    output = fbank(
        torch.zeros(4, 48000), torch.full((4,), 48000), dither=3.0, seed=1, window="rectangular",
        preemphasis=0.0, remove_dc_offset=False, num_mel_bins=10, low_freq=100.0,
    )  # fmt: skip
    bins = output.features.double().exp().mean((0, 1))
    widths = fbank(
        torch.nn.functional.one_hot(torch.tensor([100]), 400).float(), torch.tensor([400]),
        window="rectangular", preemphasis=0.0, remove_dc_offset=False, num_mel_bins=10,
        low_freq=100.0, scale=1.0,
    ).features[0, 0].double().exp()  # fmt: skip
    torch.testing.assert_close(bins / widths, torch.full_like(bins, 400 * 9.0), rtol=0.05, atol=0)


def test_seed_none_draws_from_the_generator() -> None:
    wave, lengths = noise(1, 2000), torch.tensor([2000])
    torch.manual_seed(5)
    first, second = (fbank(wave, lengths, dither=1.0).features for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(fbank(wave, lengths, dither=1.0).features, first)
    state = torch.get_rng_state()
    fbank(wave, lengths)
    assert torch.equal(torch.get_rng_state(), state)


@needs_kernel
def test_opcheck() -> None:
    for wave in (noise(2, 2000), noise(2, 2000).double(), (noise(2, 2000) * 999).to(torch.int16)):
        positional, options = arguments(wave, torch.tensor([2000, 1500]))
        torch.library.opcheck(torch.ops.stk.fbank.default, positional, options)


@pytest.mark.parametrize("kernels", [True, False])
def test_compiles_once(kernels: bool) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    dither = 1.0 if kernels else 0.0  # tracing the reference's generator takes long

    def features(wave: Tensor, lengths: Tensor, seed: Any, offset: Any) -> tuple[Tensor, Tensor]:
        return fbank(wave, lengths, dither=dither, seed=seed, offset=offset)

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(features, backend=counter, fullgraph=True, dynamic=True)
    after_first = 0
    with _library.reference_only(not kernels):
        for step in range(10):
            samples = 2000 + 321 * step
            wave = noise(2 + step, samples, seed=step)
            lengths = torch.full((2 + step,), samples - 7 * step)
            seed, offset = torch.tensor(step), 5 + 3 * step
            got = compiled(wave, lengths, seed, offset)
            expected = features(wave, lengths, seed, offset)
            torch.testing.assert_close(got[0], expected[0], atol=1e-4, rtol=0)
            assert torch.equal(got[1], expected[1])
            # The first call may trace twice: once more when the options turn out to be constants.
            after_first = after_first or counter.frame_count
    assert counter.frame_count == after_first


def test_autocast_leaves_it_alone() -> None:
    wave, lengths = noise(1, 4000), torch.tensor([4000])
    for kernels in (True, False):
        with _library.reference_only(not kernels):
            plain = fbank(wave, lengths).features
            with torch.autocast("cpu", torch.bfloat16):
                cast = fbank(wave, lengths).features
        assert cast.dtype == torch.float32 and torch.equal(cast, plain)


@needs_kernel
def test_the_operator_refuses_a_gradient() -> None:
    wave = noise(1, 2000).requires_grad_()
    positional, options = arguments(wave, torch.tensor([2000]))
    features, _ = torch.ops.stk.fbank(*positional, **options)
    with pytest.raises(RuntimeError, match="forward only"):
        features.sum().backward()
