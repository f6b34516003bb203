"""What sidecars of BERT features say of themselves, for those who write and those who read them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

KIND = "BERT features"
"""Value of the part ``kind``."""


def text_digest(text: str) -> Tensor:
    """``(16,)`` uint8: tells whether a row's text is the one that the features were made of."""
    return torch.tensor(list(hashlib.blake2b(text.encode(), digest_size=16).digest())).byte()
