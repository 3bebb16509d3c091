"""Leases of the stores that live in this process: who expires when, and which keys go with it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from eru.model.errors import LeaseLost


@dataclass(slots=True)
class Lease:
    """Its keys go away at `expires` (seconds of the monotonic clock) unless renewed."""

    id: int
    ttl_s: int
    expires: float
    keys: set[str] = field(default_factory=set)


class LeaseTable:
    """All leases. Pure: time is passed in, and the owner deletes the keys."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._heap: list[tuple[float, int]] = []

    def __contains__(self, id: int) -> bool:
        return id in self._leases

    def __len__(self) -> int:
        return len(self._leases)

    def add(self, id: int, ttl_s: int, now: float) -> Lease:
        """A new lease, full of life."""
        lease = self._leases[id] = Lease(id, ttl_s, now + ttl_s)
        heapq.heappush(self._heap, (lease.expires, id))
        return lease

    def get(self, id: int) -> Lease:
        """Raises LeaseLost."""
        lease = self._leases.get(id)
        if lease is None:
            raise LeaseLost(f"lease {id:x} has ended")
        return lease

    def renew(self, id: int, now: float) -> int:
        """Start its time to live anew; the TTL in seconds. Raises LeaseLost."""
        lease = self.get(id)
        lease.expires = now + lease.ttl_s
        return lease.ttl_s

    def remove(self, id: int) -> set[str]:
        """End a lease; the keys that were attached to it."""
        lease = self._leases.pop(id, None)
        return lease.keys if lease else set()

    def move(self, key: str, old: int, new: int) -> None:
        """`key` was attached to `old` and now is to `new` (0: none)."""
        if old == new:
            return
        if old in self._leases:
            self._leases[old].keys.discard(key)
        if new in self._leases:
            self._leases[new].keys.add(key)

    def due(self, now: float) -> list[int]:
        """Leases whose time is over, in the order in which it ended."""
        ended: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            _, id = heapq.heappop(self._heap)
            lease = self._leases.get(id)
            if lease is None:
                continue
            if lease.expires <= now:
                ended.append(id)
            else:
                heapq.heappush(self._heap, (lease.expires, id))
        return ended

    def next_due(self) -> float | None:
        """When to look again (at the latest); None when there is no lease."""
        while self._heap and self._heap[0][1] not in self._leases:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
