"""CPU and memory of all nodes as columns, so that one request is measured on all of them at once.

Bound requests are counted in closed form (see `_fit`), exactly as
`cores.count` counts them one by one; nodes with NUMA or oversold cores are
counted one by one. Either way a count is kept until its node changes, so
a request that comes again costs only what changed in between.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from eru.resource.contract import UNLIMITED, Measure, Record
from eru.resource.cpumem import room as rooms
from eru.resource.cpumem.cores import shape_of
from eru.resource.cpumem.request import CpumemRequest, pieces_of

_KEPT_MAX = 16  # different bound requests whose counts are kept
WEIGHT_BOUND = 100.0
WEIGHT_UNBOUND = 1.0

Ints = NDArray[np.int64]


class CpumemTable:
    """One row per node of the live view; see `resource.contract.Table`."""

    def __init__(self, sharebase: int, maxshare: int) -> None:
        self._sharebase = sharebase
        self._maxshare = maxshare
        self._rows = 0
        self._memory_inverse = np.zeros(0, np.float64)
        self._memory_free = np.zeros(0, np.int64)
        self._memory_share = np.zeros(0, np.float64)
        self._cores = np.zeros(0, np.int64)
        self._cpu_share = np.zeros(0, np.float64)
        self._full = np.zeros(0, np.int64)  # whole cores
        self._broken = np.zeros(0, np.int64)  # cores with a part left
        self._parts = np.zeros((0, 0), np.uint8 if sharebase <= 255 else np.int32)  # what is left, core by row
        self._cores_of: dict[int, tuple[Record, object, object]] = {}  # of rows that are not odd: what `_parts` shows
        self._odd: dict[int, rooms.Room] = {}  # rows that are counted one by one
        self._is_odd = np.zeros(0, np.bool_)
        self._stamp = np.zeros(0, np.int64)  # changes of a row
        self._clock = 0
        self._kept: OrderedDict[tuple[int, int], tuple[Ints, Ints]] = OrderedDict()

    def set(self, row: int, capacity: Record, usage: Record) -> None:
        """Row `row` is a node with this capacity and usage."""
        if self._only_moved(row, capacity, usage):
            return
        room = rooms.room_of(capacity, usage)
        self._reserve(row + 1, len(room.free))
        self._touch(row)
        memory, cores = capacity.get("memory", 0), len(room.free)
        self._memory_inverse[row] = 1 / memory if memory else 0.0
        self._memory_free[row] = room.memory
        self._memory_share[row] = usage.get("memory", 0) / memory if memory else 0.0
        self._cores[row] = cores
        self._cpu_share[row] = usage.get("cpu", 0) / cores if cores else 0.0
        base = self._sharebase
        odd = bool(room.numa) or (cores > 0 and max(room.free.values()) > base)
        self._is_odd[row] = odd
        if odd:
            self._odd[row] = room
            return
        self._odd.pop(row, None)
        parts = [left if left < base else 0 for left in room.free.values()]
        self._cores_of[row] = (capacity, usage.get("cpu_map"), usage.get("numa_memory"))
        self._parts[:cores, row] = parts
        self._parts[cores:, row] = 0
        self._full[row] = sum(left == base for left in room.free.values())
        self._broken[row] = sum(left > 0 for left in parts)

    def _only_moved(self, row: int, capacity: Record, usage: Record) -> bool:
        """Whether the cores are the very ones of the last time, as in every deploy that binds none; then
        memory and shares are set here."""
        seen = self._cores_of.get(row)
        if (
            seen is None
            or seen[0] is not capacity
            or seen[1] is not usage.get("cpu_map")
            or seen[2] is not usage.get("numa_memory")
        ):
            self._cores_of.pop(row, None)
            return False
        self._touch(row)
        memory, used, cores = capacity.get("memory", 0), usage.get("memory", 0), int(self._cores[row])
        self._memory_free[row] = max(0, memory - used)
        self._memory_share[row] = used / memory if memory else 0.0
        self._cpu_share[row] = usage.get("cpu", 0) / cores if cores else 0.0
        return True

    def clear(self, row: int) -> None:
        """Row `row` is no node any more: nothing fits there."""
        if row >= self._rows:
            return
        self._touch(row)
        self._cores_of.pop(row, None)
        self._odd.pop(row, None)
        self._is_odd[row] = False
        for column in (self._memory_free, self._cores, self._full, self._broken):
            column[row] = 0
        for shares in (self._memory_share, self._memory_inverse, self._cpu_share):
            shares[row] = 0.0
        self._parts[:, row] = 0

    def measure(self, request: CpumemRequest, rows: Ints) -> Measure:
        """Capacity, usage and rate on `rows`."""
        if request.bind:
            return self._measure_bound(request, rows)
        usage = self._memory_share.take(rows)
        if request.memory_request:
            capacity = self._memory_free.take(rows)
            capacity //= request.memory_request
            rate = self._memory_inverse.take(rows)
            rate *= request.memory_request
        else:
            capacity = np.where(self._cores.take(rows) > 0, UNLIMITED, 0)
            rate = np.zeros(len(rows))
        if request.cpu_request > 1:
            capacity[self._cores.take(rows) < request.cpu_request] = 0
        return Measure(capacity, usage, rate, WEIGHT_UNBOUND)

    def _measure_bound(self, request: CpumemRequest, rows: Ints) -> Measure:
        pieces = pieces_of(request.cpu_request, self._sharebase)
        key = (pieces, request.memory_request)
        capacity, seen = self._kept.get(key) or (np.zeros(self._rows, np.int64), np.full(self._rows, -1, np.int64))
        if len(seen) < self._rows:
            more = self._rows - len(seen)
            capacity = np.concatenate([capacity, np.zeros(more, np.int64)])
            seen = np.concatenate([seen, np.full(more, -1, np.int64)])
        self._kept[key] = (capacity, seen)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        stale = rows[seen.take(rows) != self._stamp.take(rows)]
        if len(stale):
            self._count_bound(pieces, request.memory_request, stale, capacity)
            seen[stale] = self._stamp[stale]
        rate = request.cpu_request / np.maximum(self._cores.take(rows), 1)
        return Measure(capacity.take(rows), self._cpu_share.take(rows), rate, WEIGHT_BOUND)

    def _count_bound(self, pieces: int, memory: int, rows: Ints, capacity: Ints) -> None:
        odd = self._is_odd[rows]
        if odd.any():
            need = rooms.Need(shape_of(pieces, self._sharebase), memory, self._maxshare)
            counted: dict[object, int] = {}  # many nodes are alike
            for row in rows[odd].tolist():
                room = self._odd[row]
                alike = rooms.likeness(room)
                if alike not in counted:
                    counted[alike] = rooms.count(room, need)
                capacity[row] = counted[alike]
            rows = rows[~odd]
        fit = self._fit(pieces, rows)
        if memory:
            np.minimum(fit, self._memory_free[rows] // memory, out=fit)
        capacity[rows] = fit

    def _fit(self, pieces: int, rows: Ints) -> Ints:
        """Instances by cores alone, where no core is oversold.

        With f whole cores, p fragments on broken cores and g fragments on each
        whole core that is broken up, breaking x of them fits
        min((f - x) // k, p + g * x) instances of k whole cores and a fragment.
        The best x is the last one where the second is not above the first,
        or the one after it.
        """
        shape = shape_of(pieces, self._sharebase)
        full = self._full[rows]
        if not shape.frag:
            return np.asarray(full // shape.full)
        parts = self._parts[:, : len(rows)] if _is_range(rows) else self._parts[:, rows]
        slots = np.add.reduce(parts // parts.dtype.type(shape.frag), axis=0, dtype=np.int64)
        gain = self._sharebase // shape.frag
        allowed = self._cores[rows] - shape.full
        if self._maxshare >= 0:
            allowed = np.minimum(allowed, self._maxshare)
        most = np.clip(allowed - self._broken[rows], 0, full)
        if not shape.full:
            return np.asarray(slots + gain * most)
        breaks = (full - shape.full * slots) // (1 + shape.full * gain)
        here = np.clip(breaks, 0, most)
        after = np.minimum(here + 1, most)
        return np.asarray(
            np.maximum(
                np.minimum((full - here) // shape.full, slots + gain * here),
                np.minimum((full - after) // shape.full, slots + gain * after),
            )
        )

    def _touch(self, row: int) -> None:
        self._clock += 1
        self._stamp[row] = self._clock

    def _reserve(self, rows: int, cores: int) -> None:
        """Make the columns long enough; they double, so that adding nodes one by one stays cheap."""
        old_cores, old_rows = self._parts.shape
        if rows <= old_rows and cores <= old_cores:
            return
        size = max(rows, 2 * old_rows) if rows > old_rows else old_rows
        grown = np.zeros((max(cores, old_cores), size), self._parts.dtype)
        grown[:old_cores, :old_rows] = self._parts
        self._parts = grown
        more = size - old_rows
        if more:
            self._memory_free, self._cores, self._full, self._broken, self._stamp = (
                np.concatenate([column, np.zeros(more, np.int64)])
                for column in (self._memory_free, self._cores, self._full, self._broken, self._stamp)
            )
            self._memory_share, self._memory_inverse, self._cpu_share = (
                np.concatenate([column, np.zeros(more)])
                for column in (self._memory_share, self._memory_inverse, self._cpu_share)
            )
            self._is_odd = np.concatenate([self._is_odd, np.zeros(more, np.bool_)])
        self._rows = size


def _is_range(rows: Ints) -> bool:
    return bool(len(rows) and rows[0] == 0 and (np.diff(rows) == 1).all())
