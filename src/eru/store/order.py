"""A set of keys that can be walked in order, made for many changes between walks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

FEW_NEW_KEYS = 64  # up to here each key is inserted by itself; more are merged in one sort


class KeyOrder:
    """Texts in code point order, which is the order of their UTF-8 bytes."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._new: set[str] = set()  # not yet in _sorted
        self._gone: set[str] = set()  # still in _sorted

    def add(self, key: str) -> None:
        """`key` is not in the set yet."""
        if key in self._gone:
            self._gone.discard(key)
        else:
            self._new.add(key)

    def remove(self, key: str) -> None:
        """`key` is in the set."""
        if key in self._new:
            self._new.discard(key)
        else:
            self._gone.add(key)

    def under(self, prefix: str, after: str) -> Iterator[str]:
        """Keys that start with `prefix` and sort after `after`. Ends early when the set changes meanwhile."""
        self._merge()
        keys = self._sorted
        index = bisect_right(keys, after) if after >= prefix else bisect_left(keys, prefix)
        while index < len(keys) and keys[index].startswith(prefix):
            if keys[index] not in self._gone:
                yield keys[index]
            index += 1

    def _merge(self) -> None:
        if len(self._gone) * 2 > len(self._sorted):
            self._sorted = [key for key in self._sorted if key not in self._gone]
            self._gone.clear()
        if len(self._new) <= FEW_NEW_KEYS:
            for key in self._new:
                insort(self._sorted, key)
        else:
            self._sorted.extend(self._new)
            self._sorted.sort()
        self._new.clear()
