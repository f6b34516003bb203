"""Fused kernels for speech translation, for CPU and CUDA, each with a plain-PyTorch reference.

Importing this package needs torch alone. Where stk was installed with compiled kernels they run;
otherwise, and under ``STK_KERNELS=reference``, the references in :mod:`stk.ops.reference` do, with
the same results.
"""

from stk.ops.attention import attention
from stk.ops.ctc_shrink import CtcShrinkOutput, ctc_shrink
from stk.ops.fbank import FbankOutput, fbank
from stk.ops.gumbel_vq import GumbelVQOutput, gumbel_vq, gumbel_vq_linear
from stk.ops.pack_prefix import PackPrefixOutput, pack_prefix, unpack_prefix

__all__ = [
    "CtcShrinkOutput",
    "FbankOutput",
    "GumbelVQOutput",
    "PackPrefixOutput",
    "attention",
    "ctc_shrink",
    "fbank",
    "gumbel_vq",
    "gumbel_vq_linear",
    "pack_prefix",
    "unpack_prefix",
]
