"""Counter-based random numbers in plain PyTorch: the bits that the kernels draw.

Philox 4x32-10 (Salmon et al., 2011). The group counter is ``element index // 4`` and the element's
word is number ``element index % 4`` of the result, so a value depends on the element's index, the
seed and the offset alone. The same layout is in csrc/common/philox.h.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUNDS = 10


def seed_pair(
    seed: int | Tensor | None, offset: int | Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``(seed, offset)`` as 0-dim int64 tensors.

    A number or a 0-dim tensor is taken as it is (a tensor stays on its device, so that nothing
    waits for it). ``seed=None`` draws one from torch's default generator of ``device``;
    ``offset=None`` is 0.

    Raises:
        ValueError: a tensor that is not 0-dim int64.
    """
    if seed is None:
        drawn = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=device)
    else:
        drawn = _as_scalar("seed", seed)
    return drawn, _as_scalar("offset", 0 if offset is None else offset)


def _as_scalar(name: str, value: int | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        if value.dim() != 0 or value.dtype != torch.int64:
            raise ValueError(
                f"stk.ops: {name} has shape {tuple(value.shape)} and dtype {value.dtype} "
                "but expected a number or a 0-dim int64 tensor"
            )
        return value
    return torch.full((), value, dtype=torch.int64)


def _multiply(constant: int, value: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of ``constant * value`` for 32-bit words held in int64."""
    # The product wraps to the right 64 bits; the mask removes the sign that >> carries along.
    product = value * constant
    return (product >> 32) & _MASK, product & _MASK


def philox(group: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    """Words of the groups ``group``: int64 ``(...)`` -> int64 ``(..., 4)``, each in [0, 2^32).

    ``seed`` and ``offset`` are 0-dim int64 tensors (two's complement: the 64 bits are what counts).
    """
    seed, offset = seed.to(group.device), offset.to(group.device)
    c0, c1 = group & _MASK, (group >> 32) & _MASK
    c2, c3 = (offset & _MASK).expand_as(group), ((offset >> 32) & _MASK).expand_as(group)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(0xD2511F53, c0)
        high1, low1 = _multiply(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def words(count: int, seed: Tensor, offset: Tensor, device: torch.device) -> Tensor:
    """Words of elements 0 to ``count - 1``: int64 ``(count,)`` in [0, 2^32)."""
    group = torch.arange((count + 3) // 4, dtype=torch.int64, device=device)
    return philox(group, seed, offset).reshape(-1)[:count]


def uniform(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[0, 1) with 24 bits: ``(word >> 8) / 2^24``, the same value in every dtype from fp32 up."""
    return (word >> 8).to(dtype) * 2.0**-24


def uniform_open(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(0, 1) with 23 bits: ``((word >> 9) + 1/2) / 2^23``, so that logarithms are finite."""
    return ((word >> 9).to(dtype) + 0.5) * 2.0**-23


def normal(word: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal values from words ``(..., 4)`` by Box and Muller (1958): same shape.

    Words 0 and 1 give values 0 (cosine) and 1 (sine); words 2 and 3 give values 2 and 3.
    """
    pairs = word.reshape(*word.shape[:-1], 2, 2)
    radius = torch.sqrt(-2.0 * torch.log(uniform_open(pairs[..., 0], dtype)))
    angle = (2.0 * math.pi) * uniform(pairs[..., 1], dtype)
    values = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return values.reshape(word.shape)
