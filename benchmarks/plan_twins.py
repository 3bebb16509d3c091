"""The planning functions in plain Python, one instance at a time: the yardstick, and a check of the results."""

import heapq
from collections.abc import Sequence


def auto(count: Sequence[int], capacity: Sequence[int], need: int, limit: int) -> list[int]:
    """A heap on (instances, most room, position)."""
    got = [0] * len(count)
    heap = [
        (n, -c, i) for i, (n, c) in enumerate(zip(count, capacity, strict=True)) if c > 0 and (not limit or n < limit)
    ]
    heapq.heapify(heap)
    for _ in range(need):
        n, c, i = heap[0]
        got[i] += 1
        if c + 1 and (not limit or n + 1 < limit):
            heapq.heapreplace(heap, (n + 1, c + 1, i))
        else:
            heapq.heappop(heap)
    return got


def global_(usage: Sequence[float], rate: Sequence[float], capacity: Sequence[int], need: int) -> list[int]:
    """A heap on the usage that the next instance would make."""
    got = [0] * len(usage)
    heap = [(u + r, i) for i, (u, r) in enumerate(zip(usage, rate, strict=True)) if capacity[i] > 0]
    heapq.heapify(heap)
    for _ in range(need):
        i = heap[0][1]
        got[i] += 1
        if got[i] < capacity[i]:
            heapq.heapreplace(heap, (usage[i] + (got[i] + 1) * rate[i], i))
        else:
            heapq.heappop(heap)
    return got


def drained(usage: Sequence[float], capacity: Sequence[int], need: int) -> list[int]:
    """Sorted by room, filled one node after the other."""
    got = [0] * len(usage)
    for i in sorted(range(len(usage)), key=lambda i: (capacity[i], -usage[i], i)):
        if not need:
            break
        got[i] = min(capacity[i], need)
        need -= got[i]
    return got


def fill(count: Sequence[int], capacity: Sequence[int], target: int, limit: int) -> list[int]:
    """Sorted by instances and room, the first `limit` that can be filled."""
    got, left = [0] * len(count), limit or len(count)
    for i in sorted(range(len(count)), key=lambda i: (-count[i], -capacity[i], i)):
        if not left:
            break
        if count[i] + capacity[i] >= target:
            got[i], left = max(target - count[i], 0), left - 1
    return got


def each(capacity: Sequence[int], many: int, limit: int) -> list[int]:
    """Sorted by room, the first `limit`."""
    got = [0] * len(capacity)
    for i in sorted(range(len(capacity)), key=lambda i: (-capacity[i], i))[: limit or len(capacity)]:
        got[i] = many
    return got
