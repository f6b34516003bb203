"""Shards of a decoding job."""

from __future__ import annotations

import pytest

from stk.decoding.shard import parse_shard, take_shard
from stk.errors import StkError


@pytest.mark.parametrize("count", [0, 1, 7, 12])
@pytest.mark.parametrize("shards", [1, 3, 8])
def test_shards_are_everything_once(count: int, shards: int) -> None:
    items = list(range(count))
    parts = [take_shard(items, shard, shards) for shard in range(1, shards + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(StkError, match="no shard"):
        parse_shard(text)


def test_a_shard_counts_from_one() -> None:
    assert parse_shard("2/8") == (2, 8)
