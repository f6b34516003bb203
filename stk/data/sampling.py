"""Rows drawn so that small languages are not drowned by large ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stk.data.example import Example
from stk.errors import StkError


def temperature_shares(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Share of every group: ``q_i`` proportional to ``p_i ** (1 / T)``.

    XLM draws with an exponent of 0.5 for vocabularies and 0.7 for batches (Conneau and Lample,
    2019), mBART with 0.7; their inverses are temperatures.

    Args:
        sizes: of the groups, at least 1 each.
        temperature: 1 keeps the sizes' shares, a high one makes all groups alike.

    Raises:
        ValueError: the temperature is not above 0.
        StkError: a group without rows.
    """
    if temperature <= 0:
        raise ValueError("temperature must be above 0")
    empty = sorted(name for name, size in sizes.items() if size < 1)
    if empty or not sizes:
        raise StkError(f"no rows in {', '.join(empty) or 'any group'}", mend="leave it out")
    raw = {name: size ** (1.0 / temperature) for name, size in sizes.items()}
    total = sum(raw.values())
    return {name: share / total for name, share in raw.items()}


def temperature_sample(
    examples: Iterable[Example],
    rows: int,
    *,
    key: Callable[[Example], str],
    temperature: float,
    groups: Sequence[str] = (),
    seed: int = 1,
) -> list[Example]:
    """About ``rows`` examples, every group with its share under a temperature.

    Of a group that is to give fewer rows than it has, rows are drawn without replacement; of one
    that is to give more, all are taken as often as they fit whole, and the rest drawn.
    A row that is taken again has ``#2``, ``#3`` ... behind its id.

    Args:
        examples: consumed once.
        rows: how many in all; shares are rounded.
        key: the group of an example, such as its language.
        temperature: see :func:`temperature_shares`.
        groups: those that must have examples.
        seed: of the draw and of the order.

    Raises:
        StkError: no examples, or none in one of ``groups``.
    """
    found: dict[str, list[Example]] = {name: [] for name in groups}
    for example in examples:
        found.setdefault(key(example), []).append(example)
    shares = temperature_shares({name: len(rows) for name, rows in found.items()}, temperature)
    rng = np.random.default_rng(seed)
    drawn: list[Example] = []
    for name in sorted(found):
        own, count = found[name], round(rows * shares[name])
        whole, rest = divmod(count, len(own))
        drawn += own * whole
        drawn += [own[int(i)] for i in rng.choice(len(own), rest, replace=False)]
    return _renamed(drawn[int(i)] for i in rng.permutation(len(drawn)))


def _renamed(examples: Iterable[Example]) -> list[Example]:
    seen: Counter[str] = Counter()
    renamed = []
    for example in examples:
        seen[example.id] += 1
        again = seen[example.id]
        renamed.append(example if again == 1 else replace(example, id=f"{example.id}#{again}"))
    return renamed
