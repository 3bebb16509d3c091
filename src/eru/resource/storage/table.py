"""Storage of all nodes as columns; requests with volumes are counted node by node and kept until the node changes."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from eru.resource.contract import Measure, Record, nothing_asked
from eru.resource.storage.place import count, node_of
from eru.resource.storage.request import StorageRequest

_KEPT_MAX = 16  # different requests with volumes whose counts are kept

Ints = NDArray[np.int64]


class StorageTable:
    """One row per node of the live view; see `resource.contract.Table`."""

    def __init__(self) -> None:
        self._storage = np.zeros(0, np.int64)
        self._storage_free = np.zeros(0, np.int64)
        self._volumes = np.zeros(0, np.int64)
        self._volumes_used = np.zeros(0, np.int64)
        self._known = np.zeros(0, np.bool_)
        self._stamp = np.zeros(0, np.int64)
        self._records: list[tuple[Record, Record] | None] = []
        self._clock = 0
        self._kept: OrderedDict[StorageRequest, tuple[Ints, Ints]] = OrderedDict()

    def set(self, row: int, capacity: Record, usage: Record) -> None:
        """Row `row` is a node with this capacity and usage."""
        self._reserve(row + 1)
        self._clock += 1
        self._stamp[row] = self._clock
        self._known[row] = True
        total, used = int(capacity.get("storage") or 0), int(usage.get("storage") or 0)
        self._storage[row] = total
        self._storage_free[row] = max(0, total - used)
        self._volumes[row] = sum((capacity.get("volumes") or {}).values())
        self._volumes_used[row] = sum((usage.get("volumes") or {}).values())
        self._records[row] = (capacity, usage)

    def clear(self, row: int) -> None:
        """Row `row` is no node any more."""
        if row >= len(self._records):
            return
        self._clock += 1
        self._stamp[row] = self._clock
        self._known[row] = False
        self._records[row] = None
        for column in (self._storage, self._storage_free, self._volumes, self._volumes_used):
            column[row] = 0

    def measure(self, request: StorageRequest, rows: Ints) -> Measure:
        """Capacity, usage and rate on `rows`; a request for nothing weighs nothing."""
        if request.nothing:
            return nothing_asked(self._known.take(rows))
        if request.placed:
            total, used = self._volumes[rows], self._volumes_used[rows]
            asked = sum(volume.size for volume in request.placed)
            capacity = self._counted(request, rows)
        else:
            total = self._storage[rows]
            used = total - self._storage_free[rows]
            asked = request.storage_request
            capacity = self._storage_free[rows] // request.storage_request
        most = np.maximum(total, 1)
        return Measure(capacity, used / most, asked / most, 1.0)

    def _counted(self, request: StorageRequest, rows: Ints) -> Ints:
        size = len(self._records)
        capacity, seen = self._kept.get(request) or (np.zeros(size, np.int64), np.full(size, -1, np.int64))
        if len(seen) < size:
            more = size - len(seen)
            capacity = np.concatenate([capacity, np.zeros(more, np.int64)])
            seen = np.concatenate([seen, np.full(more, -1, np.int64)])
        self._kept[request] = (capacity, seen)
        self._kept.move_to_end(request)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        for row in rows[seen[rows] != self._stamp[rows]].tolist():
            records = self._records[row]
            capacity[row] = count(node_of(*records), request) if records else 0
            seen[row] = self._stamp[row]
        return capacity[rows]

    def _reserve(self, rows: int) -> None:
        have = len(self._records)
        if rows <= have:
            return
        more = max(rows, 2 * have) - have
        self._records.extend([None] * more)
        self._storage, self._storage_free, self._volumes, self._volumes_used, self._stamp = (
            np.concatenate([column, np.zeros(more, np.int64)])
            for column in (self._storage, self._storage_free, self._volumes, self._volumes_used, self._stamp)
        )
        self._known = np.concatenate([self._known, np.zeros(more, np.bool_)])
