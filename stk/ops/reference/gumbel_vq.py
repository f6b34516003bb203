"""Plain-PyTorch twins of :func:`stk.ops.gumbel_vq` and :func:`stk.ops.gumbel_vq_linear`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stk.ops._random import words


def gumbel_noise(
    shape: tuple[int, ...], seed: Tensor, offset: Tensor, device: torch.device
) -> Tensor:
    """Standard Gumbel noise ``-log(-log u)``, fp64, on ``device``.

    Element ``i`` (row-major) uses word ``i`` of the counter-based generator: ``1 - u`` is
    ``(word + 1/2) / 2**32``, so that the upper tail, which decides an arg-max over many codes, has
    full resolution.
    """
    count = 1
    for size in shape:
        count *= size
    word = words(count, seed, offset, device)
    return -(-torch.log1p(-(word.double() + 0.5) * 2.0**-32)).log().reshape(shape)


def gumbel_vq_reference(
    logits: Tensor,
    codebook: Tensor,
    tau: Tensor,
    seed: Tensor | None,
    offset: Tensor | None,
    *,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Same results as :func:`stk.ops.gumbel_vq`, which documents them; scalars are tensors."""
    count, groups, codes_per_group = logits.shape
    clean = logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    probs = clean.softmax(-1)
    mean_probs = probs.sum(0) / max(count, 1)
    soft = None
    noisy = clean
    if training:
        assert seed is not None and offset is not None
        noise = gumbel_noise((count, groups, codes_per_group), seed, offset, clean.device)
        noisy = clean + noise.to(clean.dtype)
        soft = (noisy / tau.to(clean)).softmax(-1)
    codes = noisy.argmax(-1)
    first = torch.arange(groups, device=codes.device) * codes_per_group
    vectors = codebook.reshape(groups * codes_per_group, -1)[codes + first]
    if soft is not None:
        # Adds exact zeros, whose gradient is that of the soft choice over a constant codebook.
        rows = torch.einsum("ngv,gvd->ngd", soft - soft.detach(), codebook.detach().to(soft))
        vectors = vectors + rows.to(vectors.dtype)
    counts = torch.zeros(groups, codes_per_group, dtype=torch.int64, device=logits.device)
    counts = counts.scatter_add(1, codes.t(), torch.ones_like(codes.t()))
    return vectors.flatten(1), codes, mean_probs, counts


def gumbel_vq_linear_reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    codebook: Tensor,
    tau: Tensor,
    seed: Tensor | None,
    offset: Tensor | None,
    *,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Same results as :func:`stk.ops.gumbel_vq_linear`, which documents them."""
    work = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    logits = functional.linear(hidden.to(work), weight.to(work), bias.to(work))
    logits = logits.reshape(hidden.shape[0], codebook.shape[0], codebook.shape[1])
    return gumbel_vq_reference(logits, codebook, tau, seed, offset, training=training)
