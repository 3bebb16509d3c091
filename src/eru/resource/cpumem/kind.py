"""The `cpumem` resource kind: answers everything the core asks about CPU and memory.

Records: `cpu`, `cpu_map`, `memory`, `numa`, `numa_memory`.
Grants: `cpu_request`, `cpu_limit`, `cpu_map` (null when not bound),
`memory_request`, `memory_limit`, `numa_memory` (null or map), `numa_node`.
Engine parameters: `cpu` (the limit), `cpu_map`, `memory` (the limit),
`numa_node`, `remap`.

CPU that is not bound is never subtracted from anything when capacity is
judged; it may be asked for freely, up to the number of cores by one workload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eru.model.errors import InvalidInput, NoCapacity
from eru.model.nodes import EngineInfo
from eru.model.refusals import Reason, Refusal
from eru.resource.contract import UNLIMITED, Allotment, Bag, Gauge, Grant, Realloted, Record
from eru.resource.cpumem import noderequest, room
from eru.resource.cpumem.account import add, diffs, subtract, zero
from eru.resource.cpumem.cores import shape_of
from eru.resource.cpumem.request import CpumemRequest, parse_change, parse_request, pieces_of
from eru.resource.cpumem.room import Need, Place
from eru.resource.cpumem.table import CpumemTable
from eru.resource.units import size_text

NOT_ENOUGH = "cannot alloc a plan, not enough resource"
_SHAREBASE_MAX = 10_000


class CpumemKind:
    """CPU and memory. `sharebase`: pieces of one core; `maxshare`: cores that may be broken up (-1: any);
    `memory_part`: share of a machine's memory that is given away when the request does not say.
    """

    name = "cpumem"
    blocking = False

    def __init__(self, sharebase: int = 100, maxshare: int = -1, memory_part: float = 0.8) -> None:
        if not 1 <= sharebase <= _SHAREBASE_MAX:
            raise InvalidInput(f"scheduler.sharebase {sharebase} is out of range, expected 1 to {_SHAREBASE_MAX}")
        if maxshare < -1:
            raise InvalidInput(f"scheduler.maxshare {maxshare} is out of range, expected -1 (any number) or more")
        if not 0 < memory_part <= 1:
            raise InvalidInput(f"memory part {memory_part} is out of range, expected above 0 and at most 1")
        self.sharebase = sharebase
        self.maxshare = maxshare
        self.memory_part = memory_part

    # Nodes.

    def node_added(self, bag: Bag | None, info: EngineInfo) -> tuple[Record, Record]:
        asked = noderequest.parse_node(bag, self.sharebase)
        capacity = noderequest.new_capacity(asked, noderequest.detect(info), self.sharebase, self.memory_part)
        return capacity, self.zero(capacity)

    def node_changed(self, capacity: Record, usage: Record, bag: Bag, *, delta: bool) -> tuple[Record, Record]:
        asked = noderequest.parse_node(bag, self.sharebase, delta=delta)
        after = noderequest.changed_capacity(capacity, asked, delta=delta)
        noderequest.check_still_fits(capacity, after, usage)
        used = usage.get("cpu_map") or {}
        used_numa = usage.get("numa_memory") or {}
        gone = {core: pieces for core, pieces in used.items() if core not in after["cpu_map"] and pieces}
        return after, {
            **zero(after),
            "cpu": usage.get("cpu", 0.0),
            "cpu_map": {**{core: used.get(core, 0) for core in after["cpu_map"]}, **gone},
            "memory": usage.get("memory", 0),
            "numa_memory": {**{node: used_numa.get(node, 0) for node in after["numa_memory"]}},
        }

    def table(self) -> CpumemTable:
        return CpumemTable(self.sharebase, self.maxshare)

    def zero(self, capacity: Record) -> Record:
        return zero(capacity)

    # Workloads.

    def parse_request(self, bag: Bag | None) -> CpumemRequest:
        return parse_request(bag, self.sharebase)

    def allot(self, capacity: Record, usage: Record, request: CpumemRequest, count: int) -> list[Allotment]:
        if count <= 0:
            return []
        if not request.bind:
            fit = self._fit_unbound(capacity, usage, request)
            if fit < count:
                raise self._shortage(count, fit, capacity, usage, request)
            return [_allotment(request, None)] * count
        places = room.places(room.room_of(capacity, usage), self._need(request), count)
        if len(places) < count:
            raise self._shortage(count, len(places), capacity, usage, request)
        return [_allotment(request, place) for place in places]

    def add(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return add(usage, grants)

    def subtract(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return subtract(usage, grants)

    def reallot(self, capacity: Record, usage: Record, old: Grant, delta: Bag) -> Realloted:
        """The old share is put back first; a bound workload stays on its cores as far as they go.

        A share that does not grow is never refused, even on a node that has become too small.
        """
        request = parse_change(old, delta, self.sharebase)
        without = subtract(usage, [old])
        free = room.room_of(capacity, without)
        place: Place | None = None
        if request.bind:
            place = room.place_near(
                free, self._need(request), old.get("cpu_map") or {}, old.get("numa_node") or ""
            ) or _same_place(old, request)
            if place is None:
                raise self._shortage(1, 0, capacity, without, request)
        elif self._fit_unbound(capacity, without, request) < 1 and not _shrinks(old, request):
            raise self._shortage(1, 0, capacity, without, request)
        allotment = _allotment(request, place)
        return Realloted(allotment, add(without, [allotment.grant]))

    def remap(self, capacity: Record, usage: Record, grants: Mapping[str, Grant]) -> dict[str, dict[str, Any]]:
        """Workloads without own cores share the cores that are wholly free, or all of them when none is."""
        free = room.room_of(capacity, usage).free
        whole = [core for core, left in free.items() if left >= self.sharebase]
        pool = dict.fromkeys(whole or free, self.sharebase)
        return {
            id: {
                "cpu": grant.get("cpu_limit") or 0.0,
                "cpu_map": dict(pool),
                "memory": grant.get("memory_limit") or 0,
                "numa_node": grant.get("numa_node") or "",
                "remap": True,
            }
            for id, grant in grants.items()
            if not grant.get("cpu_map")
        }

    # Telling.

    def explain(self, nodename: str, capacity: Record, usage: Record, request: CpumemRequest) -> Refusal | None:
        free = room.room_of(capacity, usage)
        cores = len(free.free)
        if request.memory_request > free.memory:
            return _refusal(nodename, "memory", request.memory_request, free.memory)
        if not request.bind:
            if request.cpu_request > cores:
                return _refusal(nodename, "cpu", request.cpu_request, cores, f"the node has {cores} cores")
            return None
        if room.count(free, self._need(request)):
            return None
        left = sum(free.free.values()) / self.sharebase
        whole = sum(pieces // self.sharebase for pieces in free.free.values() if pieces % self.sharebase == 0)
        detail = f"{whole} whole cores free" if left >= request.cpu_request else ""
        return _refusal(nodename, "cpu", request.cpu_request, round(left, 9), detail)

    def diffs(self, usage: Record, grants: Sequence[Grant]) -> list[str]:
        return diffs(usage, grants)

    def gauges(self, podname: str, nodename: str, capacity: Record, usage: Record) -> list[Gauge]:
        labels = {"podname": podname, "nodename": nodename}
        key = f"core.node.{nodename.replace('.', '_')}"
        total, used = capacity.get("memory", 0), usage.get("memory", 0)
        gauges = [
            Gauge("memory_capacity", "node available memory.", labels, f"{key}.memory", float(total)),
            Gauge("memory_used", "node used memory.", labels, f"{key}.memory.used", float(used)),
            Gauge("cpu_used", "node used cpu.", labels, f"{key}.cpu.used", float(usage.get("cpu", 0.0))),
        ]
        for core, pieces in (usage.get("cpu_map") or {}).items():
            own = {**labels, "cpuid": core}
            gauges.append(Gauge("cpu_map", "node used cpu pieces per core.", own, f"{key}.cpu.{core}", float(pieces)))
        return gauges

    def idleness(self, capacity: Record, usage: Record) -> float:
        cores = len(capacity.get("cpu_map") or {})
        return max(0.0, 1.0 - usage.get("cpu", 0.0) / cores) if cores else 0.0

    # Inside.

    def _need(self, request: CpumemRequest) -> Need:
        pieces = pieces_of(request.cpu_request, self.sharebase)
        return Need(shape_of(pieces, self.sharebase), request.memory_request, self.maxshare)

    def _fit_unbound(self, capacity: Record, usage: Record, request: CpumemRequest) -> int:
        cores = len(capacity.get("cpu_map") or ())
        if not cores or request.cpu_request > cores:
            return 0
        free = max(0, capacity.get("memory", 0) - usage.get("memory", 0))
        return int(free // request.memory_request) if request.memory_request else UNLIMITED

    def _shortage(self, count: int, fit: int, capacity: Record, usage: Record, request: CpumemRequest) -> NoCapacity:
        refusal = self.explain("", capacity, usage, request)
        why = f" ({_told(refusal)})" if refusal else ""
        return NoCapacity(f"need: {count}, available: {fit}{why}: {NOT_ENOUGH}", [refusal] if refusal else [])


def _allotment(request: CpumemRequest, place: Place | None) -> Allotment:
    node = place.numa_node if place else ""
    grant: Grant = {
        "cpu_request": request.cpu_request,
        "cpu_limit": request.cpu_limit,
        "cpu_map": dict(place.cores) if place else None,
        "memory_request": request.memory_request,
        "memory_limit": request.memory_limit,
        "numa_memory": {node: request.memory_request} if node else None,
        "numa_node": node,
    }
    params: dict[str, Any] = {
        "cpu": request.cpu_limit,
        "cpu_map": dict(place.cores) if place else None,
        "memory": request.memory_limit,
        "numa_node": node,
        "remap": False,
    }
    return Allotment(grant, params)


def _shrinks(old: Grant, request: CpumemRequest) -> bool:
    cpu, memory = old.get("cpu_request") or 0, old.get("memory_request") or 0
    return (
        request.cpu_request <= cpu
        and request.memory_request <= memory
        and (memory == 0) == (request.memory_request == 0)
    )


def _same_place(old: Grant, request: CpumemRequest) -> Place | None:
    """The old cores, for a bound workload that only gives back memory on a node that is too small by now."""
    cores = old.get("cpu_map")
    if cores and request.cpu_request == old.get("cpu_request") and _shrinks(old, request):
        return Place(dict(cores), old.get("numa_node") or "")
    return None


def _refusal(nodename: str, what: str, wanted: float, free: float, detail: str = "") -> Refusal:
    return Refusal(
        nodename=nodename,
        reason=Reason.RESOURCE,
        dimension=f"cpumem.{what}",
        wanted=wanted,
        free=free,
        detail=detail,
    )


def _told(refusal: Refusal) -> str:
    if refusal.dimension.endswith(".memory"):
        return f"memory: {size_text(refusal.wanted)} wanted, {size_text(refusal.free)} free"
    tail = f", {refusal.detail}" if refusal.detail else ""
    return f"cpu: {refusal.wanted:g} cores wanted, {refusal.free:g} free{tail}"
