"""Fused kernels for speech translation, for CPU and CUDA, each with a plain-PyTorch reference.

Importing this package needs torch alone. Where stk was installed with compiled kernels they run; otherwise,
and under ``STK_KERNELS=reference``, the references in :mod:`stk.ops.reference` do, with the same results.
"""

from stk.ops.attention import attention
from stk.ops.fbank import FbankOutput, fbank
from stk.ops.pack_prefix import PackPrefixOutput, pack_prefix, unpack_prefix

__all__ = [
    "FbankOutput",
    "PackPrefixOutput",
    "attention",
    "fbank",
    "pack_prefix",
    "unpack_prefix",
]
