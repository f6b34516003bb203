"""Sentence permutation (Lewis et al., 2020)."""

from __future__ import annotations

import numpy as np

from stk.data.noise.symbols import Ids


def permute(tokens: Ids, generator: np.random.Generator, end: int) -> Ids:
    """The sentences of a row in an order drawn uniformly.

    Args:
        tokens: ``(n,)`` ids; every sentence ends with ``end`` (what follows the last is one too).
        generator: the row's own.
        end: id that ends a sentence.
    """
    cuts = np.flatnonzero(tokens == end) + 1
    sentences = [part for part in np.split(tokens, cuts) if len(part)]
    if len(sentences) < 2:
        return tokens.copy()
    return np.concatenate([sentences[i] for i in generator.permutation(len(sentences))])
