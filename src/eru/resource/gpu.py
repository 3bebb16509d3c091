"""The `gpu` resource kind: devices counted per product.

Records, grants and engine parameters all carry only `prod_count_map`
(product -> number of devices).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eru.model.errors import InvalidInput, NoCapacity, Refused
from eru.model.nodes import EngineInfo
from eru.model.refusals import Reason, Refusal
from eru.resource.contract import (
    UNLIMITED,
    Allotment,
    Bag,
    Gauge,
    Grant,
    Measure,
    Realloted,
    Record,
    nothing_asked,
)
from eru.resource.units import parse_whole, shown

NOT_ENOUGH = "cannot alloc a plan, not enough resource"
PRODUCTS_MAX = 256  # products of one node or request
PRODUCT_LENGTH_MAX = 128  # characters
COUNT_MAX = 1_000_000  # devices of one product on one node

_KEY = "prod_count_map"

Counts = dict[str, int]
GpuRequest = tuple[tuple[str, int], ...]  # (product, devices), sorted; hashable
Ints = NDArray[np.int64]


class GpuTable:
    """One column per product; see `resource.contract.Table`."""

    def __init__(self) -> None:
        self._rows = 0
        self._total: dict[str, Ints] = {}
        self._free: dict[str, Ints] = {}
        self._known = np.zeros(0, np.bool_)

    def set(self, row: int, capacity: Record, usage: Record) -> None:
        """Row `row` is a node with this capacity and usage."""
        if row >= self._rows:
            self._grow(row + 1)
        self._known[row] = True
        has, used = _counts(capacity), _counts(usage)
        for product in has:
            if product not in self._total:
                self._total[product] = np.zeros(self._rows, np.int64)
                self._free[product] = np.zeros(self._rows, np.int64)
        for product, total in self._total.items():
            total[row] = has.get(product, 0)
            self._free[product][row] = max(0, has.get(product, 0) - used.get(product, 0))

    def clear(self, row: int) -> None:
        """Row `row` is no node any more."""
        if row < self._rows:
            self.set(row, {}, {})
            self._known[row] = False

    def measure(self, request: GpuRequest, rows: Ints) -> Measure:
        """Capacity, usage and rate on `rows`; a request for nothing weighs nothing."""
        known = self._known.take(rows)
        if not request:
            return nothing_asked(known)
        capacity = np.where(known, UNLIMITED, 0)
        usage, rate = np.zeros(len(rows)), np.zeros(len(rows))
        for product, asked in request:
            if product not in self._total:
                return Measure(np.zeros(len(rows), np.int64), usage, rate, 1.0)
            total, free = self._total[product][rows], self._free[product][rows]
            most = np.maximum(total, 1)
            capacity = np.minimum(capacity, free // asked)
            usage += (total - free) / most / len(request)
            rate += asked / most / len(request)
        return Measure(capacity, usage, rate, 1.0)

    def _grow(self, rows: int) -> None:
        more = max(rows, 2 * self._rows) - self._rows
        for columns in (self._total, self._free):
            for product, column in columns.items():
                columns[product] = np.concatenate([column, np.zeros(more, np.int64)])
        self._known = np.concatenate([self._known, np.zeros(more, np.bool_)])
        self._rows += more


class GpuKind:
    """Devices per product."""

    name = "gpu"
    blocking = False

    # Nodes.

    def node_added(self, bag: Bag | None, info: EngineInfo) -> tuple[Record, Record]:
        capacity = _record(_parse(bag, low=0))
        return capacity, self.zero(capacity)

    def node_changed(self, capacity: Record, usage: Record, bag: Bag, *, delta: bool) -> tuple[Record, Record]:
        if bag.get(_KEY) is None:
            return capacity, usage
        has, used, asked = _counts(capacity), _counts(usage), _parse(bag, low=-COUNT_MAX if delta else 0)
        after = _summed(has, asked, 1) if delta else asked
        for product in has.keys() | after.keys() | used.keys():
            new = after.get(product, 0)
            if new < 0:
                raise InvalidInput(f"{_KEY}: {product} would have {new} devices, expected 0 or more")
            if new < used.get(product, 0) and new < has.get(product, 0):
                raise Refused(
                    f"{_KEY}: {product} cannot become {new} devices, {used[product]} are in use: "
                    f"invalid resource capacity"
                )
        record = _record(after)
        return record, _record({**self.zero(record)[_KEY], **{p: n for p, n in used.items() if n}}, keep_zeros=True)

    def table(self) -> GpuTable:
        return GpuTable()

    def zero(self, capacity: Record) -> Record:
        return _record(dict.fromkeys(_counts(capacity), 0), keep_zeros=True)

    # Workloads.

    def parse_request(self, bag: Bag | None) -> GpuRequest:
        return tuple(sorted((product, many) for product, many in _parse(bag, low=0).items() if many))

    def allot(self, capacity: Record, usage: Record, request: GpuRequest, count: int) -> list[Allotment]:
        if count <= 0:
            return []
        if not request:
            return [_NOTHING] * count
        free = _free(capacity, usage)
        fit = min((free.get(product, 0) // asked for product, asked in request), default=count)
        if fit < count:
            raise _shortage(count, fit, self.explain("", capacity, usage, request))
        return [_allotment(dict(request)) for _ in range(count)]

    def add(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return _moved(usage, grants, 1)

    def subtract(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return _moved(usage, grants, -1)

    def reallot(self, capacity: Record, usage: Record, old: Grant, delta: Bag) -> Realloted:
        before = _counts(old)
        after = _summed(before, _parse(delta, low=-COUNT_MAX), 1)
        without = self.subtract(usage, [old])
        free = _free(capacity, without)
        for product, many in after.items():
            if many < 0:
                raise InvalidInput(f"{_KEY}: {product} would become {many} devices, expected 0 or more")
            if many > free.get(product, 0) and many > before.get(product, 0):
                raise _shortage(1, 0, _refusal("", product, many, free.get(product, 0)))
        allotment = _allotment({product: many for product, many in after.items() if many})
        return Realloted(allotment, self.add(without, [allotment.grant]))

    def remap(self, capacity: Record, usage: Record, grants: Mapping[str, Grant]) -> dict[str, dict[str, Any]]:
        return {}

    # Telling.

    def explain(self, nodename: str, capacity: Record, usage: Record, request: GpuRequest) -> Refusal | None:
        free = _free(capacity, usage)
        for product, asked in request:
            if free.get(product, 0) < asked:
                return _refusal(nodename, product, asked, free.get(product, 0))
        return None

    def diffs(self, usage: Record, grants: Sequence[Grant]) -> list[str]:
        stored, summed = _counts(usage), _counts(self.add({}, grants))
        return [
            f"gpu: {product} in use is recorded as {stored.get(product, 0)}, "
            f"but the workloads sum up to {summed.get(product, 0)}"
            for product in sorted(stored.keys() | summed.keys())
            if stored.get(product, 0) != summed.get(product, 0)
        ]

    def gauges(self, podname: str, nodename: str, capacity: Record, usage: Record) -> list[Gauge]:
        key = f"core.node.{nodename.replace('.', '_')}.gpu"
        has, used, found = _counts(capacity), _counts(usage), []
        for product in sorted(has):
            labels = {"podname": podname, "nodename": nodename, "product": product}
            found.append(Gauge("gpu_capacity", "node gpus.", labels, f"{key}.capacity", float(has[product])))
            found.append(Gauge("gpu_used", "node used gpus.", labels, f"{key}.used", float(used.get(product, 0))))
        return found

    def idleness(self, capacity: Record, usage: Record) -> float:
        total = sum(_counts(capacity).values())
        return sum(_free(capacity, usage).values()) / total if total else 0.0


def _parse(bag: Bag | None, *, low: int) -> Counts:
    value = (bag or {}).get(_KEY)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > PRODUCTS_MAX:
        raise InvalidInput(f"{_KEY} {shown(value)} is not a map of at most {PRODUCTS_MAX} products to counts")
    counts: Counts = {}
    for product, many in value.items():
        if not isinstance(product, str) or not 0 < len(product) <= PRODUCT_LENGTH_MAX or not product.isprintable():
            raise InvalidInput(f"{_KEY}: product {shown(product)} is empty, too long or not printable")
        counts[product] = parse_whole(f"{_KEY}: {product}", many, low=low, most=COUNT_MAX)
    return counts


def _counts(record: Mapping[str, Any]) -> Counts:
    return dict(record.get(_KEY) or {})


def _record(counts: Counts, *, keep_zeros: bool = False) -> Record:
    return {_KEY: {product: counts[product] for product in sorted(counts) if counts[product] or keep_zeros}}


def _summed(left: Counts, right: Counts, sign: int) -> Counts:
    return {product: left.get(product, 0) + sign * right.get(product, 0) for product in left.keys() | right.keys()}


def _free(capacity: Record, usage: Record) -> Counts:
    return {product: max(0, many) for product, many in _summed(_counts(capacity), _counts(usage), -1).items()}


def _moved(usage: Record, grants: Sequence[Grant], sign: int) -> Record:
    if _KEY in usage and not any(grant.get(_KEY) for grant in grants):
        return usage  # nothing moves, as on every node without such devices
    counts = _counts(usage)
    for grant in grants:
        counts = _summed(counts, _counts(grant), sign)
    return {**usage, **_record({product: max(0, many) for product, many in counts.items()}, keep_zeros=True)}


def _allotment(counts: Counts) -> Allotment:
    return Allotment(_record(counts), _record(counts))


_NOTHING = _allotment({})


def _refusal(nodename: str, product: str, wanted: int, free: int) -> Refusal:
    return Refusal(
        nodename=nodename, reason=Reason.RESOURCE, dimension=f"gpu.{product}", wanted=float(wanted), free=float(free)
    )


def _shortage(count: int, fit: int, refusal: Refusal | None) -> NoCapacity:
    why = f" ({refusal.dimension}: {refusal.wanted:g} wanted, {refusal.free:g} free)" if refusal else ""
    return NoCapacity(f"need: {count}, available: {fit}{why}: {NOT_ENOUGH}", [refusal] if refusal else [])
