"""fbank on CUDA: parity with the exact value, streams, graphs, and no waiting for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stk.ops import fbank
from stk.ops.reference.fbank import FbankOutput
from stk.ops.reference.fbank import fbank as reference
from tests.ops.cuda_cases import no_waiting, poisoned
from tests.ops.fbank_cases import OPTIONS, TOLERANCE, assert_same, noise, speech

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_agrees_with_the_exact_value(options: dict[str, Any], dtype: torch.dtype) -> None:
    wave = torch.stack((speech(0.9), torch.randn(14400) * 0.1, speech(0.9, seed=1)))
    wave = (wave * 20000).to(dtype) if dtype == torch.int16 else wave.to(dtype)
    lengths = torch.tensor([14400, 9001, 0])
    got = fbank(wave.cuda(), lengths.cuda(), **options)
    expected = reference(wave, lengths, **options)
    tolerance = TOLERANCE[expected.features.dtype]
    assert_same(FbankOutput(got[0].cpu(), got[1].cpu()), expected, tolerance)


@pytest.mark.parametrize("cmvn", [None, "utterance", "global"])
@pytest.mark.parametrize("snip_edges", [True, False])
def test_adversarial_lengths(snip_edges: bool, cmvn: Any) -> None:
    if cmvn == "global":
        cmvn = (torch.randn(81).cuda(), torch.rand(81).cuda())
    lengths = torch.tensor([0, 1, 79, 80, 81, 399, 400, 401, 559, 560, 1679, 1680, 3000])
    wave = torch.randn(lengths.numel(), 3000).cuda()
    options: dict[str, Any] = {"snip_edges": snip_edges, "num_mel_bins": 81, "cmvn": cmvn}
    lengths = lengths.cuda()
    with poisoned():
        got = fbank(wave, lengths, **options)
    # Dividing by a deviation as small as sqrt(1e-5) enlarges rounding.
    tolerance = 1e-3 if cmvn == "utterance" else 2e-5
    assert_same(got, reference(wave, lengths, **options), tolerance)


def test_dither() -> None:
    wave, lengths = noise(2, 3000).cuda(), torch.tensor([3000, 2500]).cuda()
    expected = fbank(wave.cpu(), lengths.cpu(), dither=2.0, seed=7, offset=9).features
    for seed in (7, torch.tensor(7), torch.tensor(7).cuda()):
        got = fbank(wave, lengths, dither=2.0, seed=seed, offset=9).features
        torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=0)


def test_never_waits_for_the_device() -> None:
    wave, lengths = noise(2, 9000).cuda(), torch.tensor([9000, 4000]).cuda()
    fbank(wave, lengths, cmvn="utterance", dither=1.0)  # copies the tables
    with no_waiting():
        fbank(wave, lengths, cmvn="utterance", dither=1.0)


def test_two_streams() -> None:
    waves = [torch.randn(4, 16000).cuda() for _ in range(8)]
    lengths = torch.full((4,), 16000).cuda()
    expected = [fbank(wave, lengths).features for wave in waves]
    streams = [torch.cuda.Stream() for _ in range(2)]
    torch.cuda.synchronize()
    got = []
    for index, wave in enumerate(waves):
        with torch.cuda.stream(streams[index % 2]):
            got.append(fbank(wave, lengths).features)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_lengths_out_of_range_are_clamped() -> None:
    wave = noise(2, 3000).cuda()
    got = fbank(wave, torch.tensor([-5, 10**12]).cuda())
    assert_same(got, fbank(wave, torch.tensor([0, 3000]).cuda()), 0.0)


def test_captured_graph_takes_new_values() -> None:
    wave, lengths = noise(2, 9000).cuda(), torch.tensor([9000, 4000]).cuda()
    seed = torch.tensor(1).cuda()
    fbank(wave, lengths, dither=1.0, seed=seed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fbank(wave, lengths, dither=1.0, seed=seed)
    wave.copy_(noise(2, 9000, seed=4))
    lengths.copy_(torch.tensor([5000, 9000]))
    seed.fill_(2)
    graph.replay()
    assert_same(captured, fbank(wave, lengths, dither=1.0, seed=2), 0.0)
