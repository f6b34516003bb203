"""Layer normalisation."""

import torch

from stk.modules.norm import LayerNorm


def test_half_precision_is_computed_in_fp32() -> None:
    torch.manual_seed(1)
    norm = LayerNorm(64).bfloat16()
    x = (torch.randn(5, 64) * 0.01 + 100.0).bfloat16()
    expected = torch.nn.functional.layer_norm(x.float(), (64,)).bfloat16()
    assert norm(x).dtype == torch.bfloat16
    assert torch.equal(norm(x), expected)


def test_fp64_stays_fp64() -> None:
    assert LayerNorm(4).double()(torch.randn(2, 4, dtype=torch.float64)).dtype == torch.float64
