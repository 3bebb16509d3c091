"""The first so many nodes by several keys, without sorting all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[Any]


def first(many: int, *keys: Keys) -> Ints:
    """Indices of the `many` smallest elements by `keys` (first key first, then position), in ascending position.

    The answer is a set: sort it if the order matters.
    """
    pool = np.arange(len(keys[0]), dtype=np.int64)
    if many >= len(pool):
        return pool
    if many <= 0:
        return pool[:0]
    chosen: list[Ints] = []
    left = many
    for key in keys:
        values = key[pool]
        cut = np.partition(values, left - 1)[left - 1]
        below = pool[values < cut]
        if len(below):
            chosen.append(below)
            left -= len(below)
        pool = pool[values == cut]
        if len(pool) == left:
            break
    chosen.append(pool[:left])
    return chosen[0] if len(chosen) == 1 else np.sort(np.concatenate(chosen))


def in_order(*keys: Keys) -> Ints:
    """Indices that sort by `keys` (first key first, then position)."""
    return np.lexsort(tuple(reversed(keys)))
