"""Layer normalisation whose statistics are never taken in half precision."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over the last axis, computed in fp32 where the input is narrower.

    The result has the dtype of the input (Ba et al., 2016).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(..., D)``."""
        if x.dtype.itemsize >= 4:
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)
