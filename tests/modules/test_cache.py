"""The cache of a running search."""

import torch

from stk.modules.cache import SelfCache


def fill(cache: SelfCache, values: list[float]) -> SelfCache:
    """Extend a one-layer, one-head cache of width 1 by one token a hypothesis."""
    cache = cache.extend()
    key = torch.tensor(values).view(-1, 1, 1)
    cache.write(0, key, -key)
    return cache


def read(cache: SelfCache) -> list[list[float]]:
    """All keys, by hypothesis."""
    return cache._store.layers[0][:, 0, : cache.length, 0, 0].tolist()


def empty(rows: int) -> SelfCache:
    return SelfCache.empty(rows, 1, 1, 1, torch.zeros(1))


def test_continuing_one_cache_twice_keeps_both() -> None:
    start = fill(empty(1), [1.0])
    left, right = fill(start, [2.0]), fill(start, [3.0])
    left = fill(left, [4.0])
    assert read(start) == [[1.0]]
    assert read(left) == [[1.0, 2.0, 4.0]]
    assert read(right) == [[1.0, 3.0]]


def test_it_grows() -> None:
    cache = empty(2)
    for step in range(100):
        cache = fill(cache, [step, -step])
    assert read(cache) == [list(range(100)), [-step for step in range(100)]]


def test_select_reorders_repeats_and_drops() -> None:
    cache = fill(empty(3), [1.0, 2.0, 3.0]).select(torch.tensor([2, 2]))
    assert cache.rows == 2 and read(fill(cache, [4.0, 5.0])) == [[3.0, 4.0], [3.0, 5.0]]


def test_write_returns_keys_and_values() -> None:
    cache = fill(empty(1), [1.0]).extend()
    keys, values = cache.write(0, torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 5.0))
    assert keys.flatten().tolist() == [1.0, 2.0] and values.flatten().tolist() == [-1.0, 5.0]
