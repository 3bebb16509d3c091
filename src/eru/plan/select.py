"""The first so many nodes by several keys, without sorting all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[Any]


def first(many: int, main: Keys, *more: Keys | Callable[[Ints], Keys]) -> Ints:
    """Indices of the `many` smallest elements by all keys (`main` first, then position), in ascending position.

    A key that costs something may be a function from indices to values: only
    ties ask for it. The answer is a set: sort it if the order matters.
    """
    size = len(main)
    if many >= size:
        return np.arange(size, dtype=np.int64)
    if many <= 0:
        return np.zeros(0, np.int64)
    chosen: list[Ints] = []
    pool: Ints | None = None  # None: all
    left = many
    values = main
    for key in (None, *more):
        if key is not None:
            assert pool is not None
            values = key(pool) if callable(key) else key[pool]
        cut = np.minimum.reduce(values)
        equal = values == cut
        if np.count_nonzero(equal) < left:  # often the smallest value alone is enough
            cut = np.partition(values, left - 1)[left - 1]
            below = (values < cut).nonzero()[0]
            equal = values == cut
            if len(below):
                chosen.append(below if pool is None else pool[below])
                left -= len(below)
        tied = equal.nonzero()[0]
        pool = tied if pool is None else pool[tied]
        if len(pool) == left:
            break
    assert pool is not None
    chosen.append(pool[:left])
    return chosen[0] if len(chosen) == 1 else np.sort(np.concatenate(chosen))


def in_order(*keys: Keys) -> Ints:
    """Indices that sort by `keys` (first key first, then position)."""
    return np.lexsort(tuple(reversed(keys)))
