"""The `storage` resource kind: answers everything the core asks about storage.

Records: `volumes`, `disks`, `storage` (see `node`). Grants:
`volumes_request`, `volumes_limit` (texts of eight parts),
`volume_plan_request`, `volume_plan_limit` (text -> directory -> bytes),
`storage_request`, `storage_limit`, `disks_request`, `disks_limit`.
Engine parameters: `volumes`, `volume_changed`, `storage`, `iops_options`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eru.model.errors import InvalidInput, NoCapacity
from eru.model.nodes import EngineInfo
from eru.model.refusals import Reason, Refusal
from eru.resource.contract import Allotment, Bag, Gauge, Grant, Realloted, Record
from eru.resource.storage import node as nodes
from eru.resource.storage.account import add, diffs, subtract
from eru.resource.storage.place import Node, Spot, count, node_of, place_one, places
from eru.resource.storage.request import StorageRequest, parse_change, parse_request, volumes_of
from eru.resource.storage.table import StorageTable
from eru.resource.storage.volumes import NO_RATES, RATE_NAMES, Rates, Volume, parse_volume
from eru.resource.units import size_text

NOT_ENOUGH = "cannot alloc a plan, not enough resource"


class StorageKind:
    """Storage. `storage_part`: share of what the engine reports that is given away when the request does not say."""

    name = "storage"
    blocking = False

    def __init__(self, storage_part: float = 0.8) -> None:
        if not 0 < storage_part <= 1:
            raise InvalidInput(f"storage part {storage_part} is out of range, expected above 0 and at most 1")
        self.storage_part = storage_part

    # Nodes.

    def node_added(self, bag: Bag | None, info: EngineInfo) -> tuple[Record, Record]:
        capacity = nodes.new_capacity(bag, info, self.storage_part)
        return capacity, nodes.zero(capacity)

    def node_changed(self, capacity: Record, usage: Record, bag: Bag, *, delta: bool) -> tuple[Record, Record]:
        after = nodes.changed_capacity(capacity, bag, delta=delta)
        nodes.check_still_fits(capacity, after, usage)
        used = usage.get("volumes") or {}
        rates = nodes.disks_of(usage)
        disks = [
            replace(disk, rates=rates[device].rates if device in rates else Rates()).record()
            for device, disk in nodes.disks_of(after).items()
        ]
        volumes = {path: used.get(path, 0) for path in after["volumes"]}
        volumes |= {path: size for path, size in used.items() if size and path not in volumes}
        return after, {"volumes": volumes, "disks": disks, "storage": usage.get("storage", 0)}

    def table(self) -> StorageTable:
        return StorageTable()

    def zero(self, capacity: Record) -> Record:
        return nodes.zero(capacity)

    # Workloads.

    def parse_request(self, bag: Bag | None) -> StorageRequest:
        return parse_request(bag)

    def allot(self, capacity: Record, usage: Record, request: StorageRequest, count: int) -> list[Allotment]:
        if count <= 0:
            return []
        if not request.requests and not request.storage_request:  # fits everywhere, and looks alike everywhere
            return [_NOTHING if not request.storage_limit else _allotment(request, (), changed=False)] * count
        found = places(node_of(capacity, usage), request, count)
        if len(found) < count:
            raise self._shortage(count, len(found), capacity, usage, request)
        return [_allotment(request, spots, changed=False) for spots in found]

    def add(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return add(usage, grants)

    def subtract(self, usage: Record, grants: Sequence[Grant]) -> Record:
        return subtract(usage, grants)

    def reallot(self, capacity: Record, usage: Record, old: Grant, delta: Bag) -> Realloted:
        """Volumes that exist stay where they are: data is never moved."""
        request = parse_change(old, delta)
        without = subtract(usage, [old])
        node = node_of(capacity, without)
        before = {volume.key: volume.size for volume in volumes_of(old, "volumes_limit")}
        after = {volume.key: volume.size for volume in request.limits}
        grows = request.storage_request > (old.get("storage_request") or 0)
        if grows and request.storage_request > node.storage:
            raise self._shortage(1, 0, capacity, without, request)
        spots = place_one(node, request.requests, _directories(old))
        if spots is None:
            raise self._shortage(1, 0, capacity, without, request)
        allotment = _allotment(request, spots, changed=before != after)
        return Realloted(allotment, add(without, [allotment.grant]))

    def remap(self, capacity: Record, usage: Record, grants: Mapping[str, Grant]) -> dict[str, dict[str, Any]]:
        return {}

    # Telling.

    def explain(self, nodename: str, capacity: Record, usage: Record, request: StorageRequest) -> Refusal | None:
        node = node_of(capacity, usage)
        storage = node.storage
        if request.storage_request > storage:
            return _refusal(nodename, "storage", request.storage_request, storage)
        if count(node_of(capacity, usage), request):
            return None
        return _explain_volumes(nodename, node, request)

    def diffs(self, usage: Record, grants: Sequence[Grant]) -> list[str]:
        return diffs(usage, grants)

    def gauges(self, podname: str, nodename: str, capacity: Record, usage: Record) -> list[Gauge]:
        labels = {"podname": podname, "nodename": nodename}
        key = f"core.node.{nodename.replace('.', '_')}.storage"
        total, used = float(capacity.get("storage") or 0), float(usage.get("storage") or 0)
        return [
            Gauge("storage_capacity", "node available storage.", labels, key, total),
            Gauge("storage_used", "node used storage.", labels, f"{key}.used", used),
        ]

    def idleness(self, capacity: Record, usage: Record) -> float:
        total = int(capacity.get("storage") or 0)
        return max(0.0, 1.0 - int(usage.get("storage") or 0) / total) if total else 0.0

    def _shortage(self, wanted: int, fit: int, capacity: Record, usage: Record, request: StorageRequest) -> NoCapacity:
        refusal = self.explain("", capacity, usage, request)
        why = f" ({_told(refusal)})" if refusal else ""
        return NoCapacity(f"need: {wanted}, available: {fit}{why}: {NOT_ENOUGH}", [refusal] if refusal else [])


def _directories(old: Grant) -> dict[tuple[str, str, str], str]:
    """Where each scheduled volume of a grant lies."""
    plan: Mapping[str, Mapping[str, int]] = old.get("volume_plan_request") or {}
    lies = {parse_volume("volume_plan_request", text): list(paths) for text, paths in plan.items()}
    return {volume.key: paths[0] for volume in volumes_of(old, "volumes_request") if (paths := lies.get(volume))}


def _allotment(request: StorageRequest, spots: Sequence[Spot], *, changed: bool) -> Allotment:
    plan_request: dict[str, dict[str, int]] = {}
    plan_limit: dict[str, dict[str, int]] = {}
    mounts = []
    for asked, limit, spot in zip(request.requests, request.limits, spots, strict=True):
        mounts.append(limit.mounted(spot.path))
        if asked.scheduled:
            plan_request[asked.text] = {spot.path: spot.size}
            plan_limit[limit.text] = {spot.path: spot.size if limit.monopoly else limit.size}
    disks_limit = _disks(request.limits, spots)
    grant: Grant = {
        "volumes_request": [volume.text for volume in request.requests],
        "volumes_limit": [volume.text for volume in request.limits],
        "volume_plan_request": plan_request,
        "volume_plan_limit": plan_limit,
        "storage_request": request.storage_request,
        "storage_limit": request.storage_limit,
        "disks_request": [disk.record() for disk in _disks(request.requests, spots)],
        "disks_limit": [disk.record() for disk in disks_limit],
    }
    params: dict[str, Any] = {
        "volumes": mounts,
        "volume_changed": changed,
        "storage": request.storage_limit,
        "iops_options": {disk.device: disk.rates.text for disk in disks_limit},
    }
    return Allotment(grant, params)


def _disks(volumes: Sequence[Volume], spots: Sequence[Spot]) -> list[nodes.Disk]:
    """The rates taken of each disk."""
    taken: dict[str, Rates] = {}
    for volume, spot in zip(volumes, spots, strict=True):
        if spot.device:
            taken[spot.device] = taken.get(spot.device, Rates()) + volume.rates
    return [nodes.Disk(device, (), taken[device]) for device in sorted(taken)]


_NOTHING = _allotment(StorageRequest(), (), changed=False)


def _explain_volumes(nodename: str, node: Node, request: StorageRequest) -> Refusal:
    """The first part that is short: a monopoly volume, the largest volume, or the rates of a disk."""
    group = [volume for volume in request.requests if volume.monopoly]
    if group:
        unused = [size for path, size in node.total.items() if path not in node.used]
        need, free = sum(volume.size for volume in group), max(unused, default=0)
        if need > free or not free:
            return _refusal(nodename, "volumes", need, free, "no unused volume is large enough for a monopoly set")
    normal = [volume for volume in request.requests if volume.scheduled and not volume.monopoly]
    largest, roomiest = max((volume.size for volume in normal), default=0), max(node.free.values(), default=0)
    if normal and (largest > roomiest or not roomiest):
        return _refusal(nodename, "volumes", largest, roomiest, "no volume has this much left")
    need = sum(volume.size for volume in normal)
    total = sum(node.free.values())
    if need > total or not any(volume.rates != Rates() for volume in request.requests):
        return _refusal(nodename, "volumes", need, total, "the volumes of one workload do not fit together")
    return _explain_rates(nodename, node, request) or _refusal(
        nodename, "volumes", need, total, "no disk under them has the operations or bytes per second left"
    )


def _explain_rates(nodename: str, node: Node, request: StorageRequest) -> Refusal | None:
    """The first rate that the disk of a given directory, any disk or all together have not; None when only the
    pieces do not fit."""
    for volume in request.requests:
        device = "" if volume.scheduled else node.disk_under[volume.source]
        if device and not volume.rates.within(node.rates[device]):
            pairs = zip(RATE_NAMES, volume.rates.numbers, node.rates[device].numbers, strict=True)
            name, wanted, free = next(found for found in pairs if found[1] > found[2])
            return _refusal(nodename, name, wanted, free, f"left of disk {device}")
    asked = [volume.rates.numbers for volume in request.requests]
    left = [rates.numbers for rates in node.rates.values()] or [NO_RATES.numbers]
    for at, name in enumerate(RATE_NAMES):
        each, there = [numbers[at] for numbers in asked], [numbers[at] for numbers in left]
        if max(each) > max(there):
            return _refusal(nodename, name, max(each), max(there), "no disk has this much left")
        if sum(each) > sum(there):
            return _refusal(nodename, name, sum(each), sum(there), "the disks together have no more left")
    return None


def _refusal(nodename: str, what: str, wanted: float, free: float, detail: str = "") -> Refusal:
    return Refusal(
        nodename=nodename,
        reason=Reason.RESOURCE,
        dimension=f"storage.{what}",
        wanted=wanted,
        free=free,
        detail=detail,
    )


def _told(refusal: Refusal) -> str:
    tail = f", {refusal.detail}" if refusal.detail else ""
    what = refusal.dimension.removeprefix("storage.")
    wanted, free = refusal.wanted, refusal.free
    told = (f"{wanted:,g}", f"{free:,g}") if what.endswith("iops") else (size_text(wanted), size_text(free))
    return f"{what}: {told[0]} wanted, {told[1]} free{tail}"
