"""Splitting one decoding job among several processes or machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from stk.errors import StkError

T = TypeVar("T")


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``: shard ``i`` of ``n``, counted from 1.

    Raises:
        StkError: not of that form, or ``i`` outside ``1..n``.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise StkError(f"{text!r} is no shard", mend="write i/n with 1 <= i <= n, such as 2/8")
    return int(match[1]), int(match[2])


def take_shard(items: Sequence[T], shard: int, shards: int) -> list[T]:
    """Every ``shards``-th item, from the ``shard``-th (counted from 1) on.

    Rows that lie close together are often of like length (one talk, a sorted manifest), so
    shards of every n-th row cost about the same. Together the shards are all items, each once.
    """
    return list(items[shard - 1 :: shards])
