"""A lexicon from aligned text: IBM model 1 in both directions (Brown et al., 1993)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from stk.data.lexicon import Lexicon
from stk.data.substitution import words_of
from stk.errors import StkError

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]


def induce(
    texts: Iterable[tuple[str, str]],
    *,
    iterations: int = 5,
    min_count: int = 3,
    threshold: float = 0.1,
    most: int = 3,
) -> Lexicon:
    """Words and their likeliest translations in sentence pairs.

    Model 1 is trained in both directions, with an empty word on the giving side. A pair is kept
    where ``t(target | source) * t(source | target)`` reaches ``threshold``, so that both
    directions must agree; of a word the ``most`` best are kept, best first.

    Args:
        texts: sentence pairs; words are runs of letters and digits, in lower case.
        iterations: of expectation maximisation.
        min_count: sentences a word must occur in.
        threshold: on the product of both probabilities, in (0, 1].
        most: translations of a word at most.

    Raises:
        StkError: no pair of words is left.
    """
    sides = [(words_of(source.lower()), words_of(target.lower())) for source, target in texts]
    source_names, target_names = (_frequent([pair[i] for pair in sides], min_count) for i in (0, 1))
    source_ids, target_ids = (
        {w: i + 1 for i, w in enumerate(n)} for n in (source_names, target_names)
    )
    pairs = [
        (
            [source_ids[w] for w in source if w in source_ids],
            [target_ids[w] for w in target if w in target_ids],
        )
        for source, target in sides
    ]
    forward = model1(pairs, iterations)
    backward = model1([(target, source) for source, target in pairs], iterations)
    scored: dict[int, list[tuple[float, int]]] = {}
    for (source, target), probability in forward.items():
        score = probability * backward.get((target, source), 0.0)
        if source and target and score >= threshold:
            scored.setdefault(source, []).append((-score, target))
    if not scored:
        raise StkError(
            "no pair of words is aligned well enough",
            mend="give more sentence pairs, or a lower threshold or min_count",
        )
    return Lexicon(
        {
            source_names[source - 1]: tuple(
                target_names[target - 1] for _, target in sorted(found)[:most]
            )
            for source, found in sorted(scored.items())
        }
    )


def model1(pairs: Pairs, iterations: int) -> dict[tuple[int, int], float]:
    """Probabilities ``t(target | source)`` of IBM model 1, from a uniform start.

    Args:
        pairs: ids of source and target words, from 1 on; 0, the empty word, is added to every
            source here.
        iterations: of expectation maximisation.

    Returns:
        ``(source, target) -> probability`` of every pair that shares a sentence; the
        probabilities of a source word sum to 1.
    """
    sources: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    slots: list[np.ndarray] = []  # every target word of the corpus is one slot to be explained
    seen = 0
    for source, target in pairs:
        given = np.array([0, *source])
        sources.append(np.tile(given, len(target)))
        targets.append(np.repeat(np.asarray(target, dtype=np.int64), len(given)))
        slots.append(np.repeat(np.arange(seen, seen + len(target)), len(given)))
        seen += len(target)
    if not seen:
        return {}
    source_of, target_of, slot_of = (np.concatenate(part) for part in (sources, targets, slots))
    width = int(target_of.max()) + 1
    kinds, kind_of = np.unique(source_of * width + target_of, return_inverse=True)
    giver = kinds // width
    table = np.ones(len(kinds))
    for _ in range(iterations):
        scores = table[kind_of]
        shares = scores / np.bincount(slot_of, weights=scores, minlength=seen)[slot_of]
        counts = np.bincount(kind_of, weights=shares, minlength=len(kinds))
        table = counts / np.bincount(giver, weights=counts)[giver]
    return {
        (int(kind) // width, int(kind) % width): float(p)
        for kind, p in zip(kinds, table, strict=True)
    }


def _frequent(sentences: Iterable[Sequence[str]], least: int) -> list[str]:
    counts = Counter(word for sentence in sentences for word in set(sentence))
    return sorted(word for word, count in counts.items() if count >= least)
