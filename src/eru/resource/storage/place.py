"""Puts a workload's volumes on a node: best fit, one instance after another.

A monopoly set goes whole onto the smallest unused volume that holds it; a
normal volume onto the fullest used volume that still holds it, and only then
onto the smallest unused one; an unlimited one where most is free. Where
rates are asked for, the disk under the chosen directory must have them left.

Instances are placed one at a time on what the earlier ones left, so the
number that fits is the same whether they come at once or one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from eru.resource.contract import UNLIMITED, Record
from eru.resource.storage.node import Disk, covering_disk, disks_of
from eru.resource.storage.request import StorageRequest
from eru.resource.storage.volumes import NO_RATES, Rates, Volume

PLANS_MAX = 1_000  # instances with several volumes or rates that are counted on one node

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one volume lies: the directory, the bytes taken of it, and the disk whose rates it uses ("": none)."""

    path: str
    size: int
    device: str = ""


@dataclass(slots=True)
class Node:
    """A node while instances are put on it."""

    total: dict[str, int]
    free: dict[str, int]
    used: set[str]  # directories on which something lies
    rates: dict[str, Rates]  # left, per device
    storage: int  # bytes left
    disk_under: dict[str, str] = field(default_factory=dict)


def node_of(capacity: Record, usage: Record) -> Node:
    """What is free on a node."""
    total: dict[str, int] = dict(capacity.get("volumes") or {})
    taken: Mapping[str, int] = usage.get("volumes") or {}
    disks, disks_used = disks_of(capacity), disks_of(usage)
    paths = {path: covering_disk(disks, path) or "" for path in total}
    return Node(
        total=total,
        free={path: max(0, size - taken.get(path, 0)) for path, size in total.items()},
        used={path for path in total if taken.get(path, 0)},
        rates={
            device: disk.rates - disks_used[device].rates if device in disks_used else disk.rates
            for device, disk in disks.items()
        },
        storage=max(0, int(capacity.get("storage") or 0) - int(usage.get("storage") or 0)),
        disk_under=_Under(paths, disks),
    )


class _Under(dict[str, str]):
    """Path -> device, found when first asked."""

    def __init__(self, known: dict[str, str], disks: Mapping[str, Disk]) -> None:
        super().__init__(known)
        self._disks = disks

    def __missing__(self, path: str) -> str:
        found = covering_disk(self._disks, path) or ""
        self[path] = found
        return found


def count(node: Node, request: StorageRequest) -> int:
    """How many instances fit; changes `node`."""
    cut = node.storage // request.storage_request if request.storage_request else UNLIMITED
    if (size := _single(request)) is not None:
        return min(cut, sum(free // size for free in node.free.values()))
    if not request.placed:
        return int(cut)
    fit = 0
    while fit < min(cut, PLANS_MAX):
        before = (dict(node.free), dict(node.rates), set(node.used))
        if place_one(node, request.requests) is None:
            return fit
        fit += 1
        if before == (node.free, node.rates, node.used):
            return int(cut)  # it takes nothing away, so it fits again and again
    return fit


def places(node: Node, request: StorageRequest, most: int) -> list[list[Spot]]:
    """Spots per volume for up to `most` instances, as many as `count` says; changes `node`."""
    if request.storage_request:
        most = min(most, node.storage // request.storage_request)
    if not request.placed:
        return [[Spot(volume.source, 0) for volume in request.requests] for _ in range(most)]
    bounded = _single(request) is None
    found: list[list[Spot]] = []
    changing = True
    while len(found) < most and (not bounded or not changing or len(found) < PLANS_MAX):
        before = (dict(node.free), dict(node.rates), set(node.used)) if bounded and changing else None
        spots = place_one(node, request.requests)
        if spots is None:
            break
        found.append(spots)
        changing = changing and before != (node.free, node.rates, node.used)
    return found


def place_one(node: Node, volumes: Sequence[Volume], near: Mapping[Key, str] | None = None) -> list[Spot] | None:
    """A spot for each volume, or None when one has no room (then `node` is unchanged).

    `near`: directories that volumes of these keys must stay on.
    """
    near = near or {}
    trial = _Trial(node)
    spots: dict[int, Spot] = {}
    group = [i for i, volume in enumerate(volumes) if volume.monopoly]
    if group and not trial.monopoly(volumes, group, near, spots):
        return None
    rest = sorted((i for i in range(len(volumes)) if i not in spots), key=lambda i: (-volumes[i].size, i))
    for i in rest:
        spot = trial.spot(volumes[i], near.get(volumes[i].key))
        if spot is None:
            return None
        spots[i] = spot
    trial.commit()
    return [spots[i] for i in range(len(volumes))]


def _single(request: StorageRequest) -> int | None:
    """The size, when one normal volume without rates is all that has to be placed."""
    if len(request.placed) != 1:
        return None
    volume = request.placed[0]
    plain = volume.scheduled and not volume.monopoly and volume.rates == NO_RATES
    return volume.size if plain and volume.size else None


class _Trial:
    """One instance being placed; nothing is taken from the node before `commit`."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.free = dict(node.free)
        self.used = set(node.used)
        self.rates = dict(node.rates)
        self.own: set[str] = set()  # where sized volumes of this instance are, which others may share

    def commit(self) -> None:
        self.node.free, self.node.used, self.node.rates = self.free, self.used, self.rates

    def monopoly(
        self, volumes: Sequence[Volume], group: Sequence[int], near: Mapping[Key, str], spots: dict[int, Spot]
    ) -> bool:
        """The whole group onto one unused volume, which it shares in proportion to the sizes."""
        need = sum(volumes[i].size for i in group)
        kept = [near[volumes[i].key] for i in group if volumes[i].key in near]
        unused = sorted((size, path) for path, size in self.node.total.items() if path not in self.used and size > 0)
        for total, path in unused:
            if total < need or (kept and path != kept[0]):
                continue
            saved = dict(self.rates)
            devices = [self.take_rates(volumes[i].rates, path) for i in group]
            if None in devices:
                self.rates = saved
                continue
            shares = _shares(total, [volumes[i].size for i in group])
            for i, share, device in zip(group, shares, devices, strict=True):
                spots[i] = Spot(path, share, device or "")
            self.free[path] = 0
            self.used.add(path)
            return True
        return False

    def spot(self, volume: Volume, near: str | None) -> Spot | None:
        for path in self.candidates(volume, near):
            device = self.take_rates(volume.rates, path)
            if device is None:
                continue
            if not volume.scheduled:
                return Spot(path, 0, device)
            if volume.size:
                self.free[path] -= volume.size
                self.used.add(path)
                self.own.add(path)
            return Spot(path, volume.size, device)
        return None

    def candidates(self, volume: Volume, near: str | None) -> list[str]:
        if not volume.scheduled:
            return [volume.source]
        fitting = [path for path, free in self.free.items() if free >= max(volume.size, 1)]
        if near is not None:
            return [near] if near in fitting or (not volume.size and near in self.free) else []
        if volume.unlimited:
            # Where all is full now, beside what made it so.
            return sorted(fitting or self.own, key=lambda path: (-self.free[path], path))[:1]
        return sorted(fitting, key=lambda path: (path not in self.used, self.free[path], path))

    def take_rates(self, rates: Rates, path: str) -> str | None:
        """The device whose rates were taken ("" when none are asked for); None when they are not free."""
        if rates == NO_RATES:
            return ""
        device = self.node.disk_under[path]
        if not device or not rates.within(self.rates[device]):
            return None
        self.rates[device] = self.rates[device] - rates
        return device


def _shares(total: int, sizes: Sequence[int]) -> list[int]:
    """`total` divided in proportion to `sizes` (evenly when all are 0); nothing is lost in rounding."""
    need = sum(sizes)
    weights = sizes if need else [1] * len(sizes)
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    shares[0] += total - sum(shares)
    return shares
