"""The counter-based generator against published values and against its stated distributions."""

from __future__ import annotations

import pytest
import torch

from stk.ops import _random


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """The answers published with the generator (Salmon et al., 2011)."""
    group = torch.tensor([signed(counter[0] | counter[1] << 32)])
    offset = torch.tensor(signed(counter[2] | counter[3] << 32))
    seed = torch.tensor(signed(key[0] | key[1] << 32))
    assert tuple(_random.philox(group, seed, offset)[0].tolist()) == expected


def test_words_depend_on_the_index_alone() -> None:
    seed, offset = _random.seed_pair(3, 4, torch.device("cpu"))
    longer = _random.words(1003, seed, offset, torch.device("cpu"))
    assert torch.equal(_random.words(10, seed, offset, torch.device("cpu")), longer[:10])
    assert longer.unique().numel() == 1003


def test_uniform_ranges() -> None:
    extremes = torch.tensor([0, 2**32 - 1])
    assert _random.uniform(extremes).tolist() == [0.0, 1.0 - 2.0**-24]
    assert _random.uniform_open(extremes).tolist() == [2.0**-24, 1.0 - 2.0**-24]


def test_normal_moments() -> None:
    seed, offset = _random.seed_pair(11, None, torch.device("cpu"))
    group = torch.arange(50_000)
    values = _random.normal(_random.philox(group, seed, offset), torch.float64)
    flat = values.flatten()
    assert abs(flat.mean()) < 0.01 and abs(flat.var() - 1.0) < 0.02
    assert abs(flat.pow(3).mean()) < 0.03 and abs(flat.pow(4).mean() - 3.0) < 0.1
    assert (torch.corrcoef(values.t()) - torch.eye(4)).abs().max() < 0.02


def test_seed_pair() -> None:
    device = torch.device("cpu")
    torch.manual_seed(1)
    first, offset = _random.seed_pair(None, None, device)
    second, _ = _random.seed_pair(None, None, device)
    assert first != second and offset == 0
    torch.manual_seed(1)
    assert _random.seed_pair(None, None, device)[0] == first
    kept = torch.tensor(5)
    assert _random.seed_pair(kept, -7, device)[0] is kept
    for wrong in (torch.tensor([5]), torch.tensor(5.0)):
        with pytest.raises(ValueError, match="expected a number or a 0-dim int64 tensor"):
            _random.seed_pair(wrong, None, device)
