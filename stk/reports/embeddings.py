"""How near translations are to each other among a model's word vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stk.data.vocab import Vocab
from stk.errors import StkError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Similarity:
    """How near the two words of dictionary pairs are.

    Attributes:
        pairs: pairs that were compared.
        cosine: mean cosine of a pair.
        distance: mean L2 distance of a pair.
        unrelated: mean cosine of words that are no pair: each first word with the next pair's
            second one. What ``cosine`` exceeds it by is due to meaning.
    """

    pairs: int
    cosine: float
    distance: float
    unrelated: float


def embedding_table(model: Any) -> Tensor:
    """``(V, D)`` fp32: the rows with which a model's encoder looks tokens up.

    Raises:
        StkError: the model reads no tokens.
    """
    embedding = getattr(getattr(model, "encoder", None), "embedding", None)
    weight = getattr(embedding, "weight", None)
    if not isinstance(weight, Tensor):
        raise StkError("this model's encoder looks no tokens up", mend="give a model of text")
    return weight.detach().float().cpu()


def word_vectors(words: Sequence[str], vocab: Vocab, table: Tensor) -> Tensor:
    """``(len(words), D)`` fp32: the mean of the rows of every word's pieces.

    Args:
        words: single words, as they stand in text.
        vocab: that indexes the table.
        table: ``(V, D)``, see :func:`embedding_table`.

    Raises:
        StkError: a word without pieces, or of unknown characters alone.
    """
    rows = []
    for word in words:
        ids = [index for index in vocab.encode(word) if index != vocab.unk]
        if not ids:
            raise StkError(f"the vocabulary has no piece of {word!r}")
        rows.append(table[ids].mean(dim=0))
    return torch.stack(rows)


def similarity(pairs: Pairs, vocab: Vocab, table: Tensor) -> Similarity:
    """Mean cosine and L2 distance over pairs of words (Conneau and Lample, 2019, section 5.5).

    Args:
        pairs: two at least, such as those of a lexicon.
        vocab: of both languages.
        table: ``(V, D)``.

    Raises:
        StkError: fewer than two pairs, or a word without pieces.
    """
    if len(pairs) < 2:
        raise StkError(f"{len(pairs)} pairs of words are too few to compare", mend="give two")
    first, second = (word_vectors([p[side] for p in pairs], vocab, table) for side in (0, 1))
    cosine = torch.nn.functional.cosine_similarity
    return Similarity(
        pairs=len(pairs),
        cosine=float(cosine(first, second).mean()),
        distance=float((first - second).norm(dim=1).mean()),
        unrelated=float(cosine(first, second.roll(1, dims=0)).mean()),
    )


def correlation(scored: Sequence[tuple[str, str, float]], vocab: Vocab, table: Tensor) -> float:
    """Pearson's correlation of cosines and people's scores, in [-1, 1] (ibid.; SemEval-2017).

    Args:
        scored: pairs of words with their scores, such as
            :func:`stk.data.lexicon.load_scored_pairs` reads.
        vocab: of both languages.
        table: ``(V, D)``.

    Raises:
        StkError: a word without pieces, or fewer than two pairs whose scores (or cosines) differ.
    """
    scores = np.array([score for _, _, score in scored])
    if len(scored) < 2:
        raise StkError(f"{len(scored)} scored pairs are too few to correlate", mend="give two")
    first = word_vectors([word for word, _, _ in scored], vocab, table)
    second = word_vectors([word for _, word, _ in scored], vocab, table)
    cosines = torch.nn.functional.cosine_similarity(first, second).double().numpy()
    if np.ptp(scores) == 0 or np.ptp(cosines) == 0:
        which = "scores" if np.ptp(scores) == 0 else "cosines"
        raise StkError(f"all {which} are equal, so nothing correlates with them")
    return float(np.corrcoef(cosines, scores)[0, 1])


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """``(N, 2)``: vectors ``(N, D)`` in the plane of their two largest principal components.

    Each axis is turned so that its largest coordinate (in size) is positive.
    """
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    plane: np.ndarray = centred @ axes[:2].T
    signs = np.sign(plane[np.abs(plane).argmax(axis=0), np.arange(plane.shape[1])])
    return plane * np.where(signs == 0, 1, signs)


def plane_picture(panels: Mapping[str, Tensor], pairs: Pairs, vocab: Vocab) -> Figure:
    """Words and their translations in a plane, one panel a table (Lin et al., 2020, figure 2).

    First words are blue dots, second ones red crosses, each with its name; a line joins each pair,
    so that short lines mean that translations have met.

    Args:
        panels: title -> table ``(V, D)``; each has its own plane.
        pairs: of words; 20 to 40 can be read.
        vocab: of both languages.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * len(panels), 6.5), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, table) in zip(axes, panels.items(), strict=True):
        words = [word for pair in pairs for word in pair]
        plane = principal_plane(word_vectors(words, vocab, table).numpy())
        first, second = plane[0::2], plane[1::2]
        for (a, b), here, there in zip(pairs, first, second, strict=True):
            axis.plot(*np.stack([here, there]).T, color="0.8", linewidth=0.8, zorder=0)
            axis.annotate(
                a, here, fontsize=7, color="tab:blue", xytext=(2, 2), textcoords="offset points"
            )
            axis.annotate(
                b, there, fontsize=7, color="tab:red", xytext=(2, 2), textcoords="offset points"
            )
        axis.plot(*first.T, "o", color="tab:blue", markersize=4)
        axis.plot(*second.T, "x", color="tab:red", markersize=5)
        axis.set(title=title, xlabel="first component", ylabel="second component")
        axis.margins(0.12)
        axis.grid(alpha=0.2)
    return figure
