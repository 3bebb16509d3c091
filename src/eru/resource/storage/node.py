"""What a node has of storage: volumes (directory -> bytes), disks with their rates, and bytes in all.

`storage` includes the volumes. Records use the published key names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eru.model.errors import InvalidInput, Refused
from eru.model.nodes import EngineInfo
from eru.resource.contract import Bag, Record
from eru.resource.storage.volumes import NO_RATES, RATE_NAMES, Rates
from eru.resource.units import BYTES_MAX, given, parse_size, parse_texts, shown

NODE_VOLUMES_MAX = 1024
NODE_DISKS_MAX = 256
_RATE_KEYS = ("read_IOPS", "write_IOPS", "read_bps", "write_bps")


@dataclass(frozen=True, slots=True)
class Disk:
    """A device, where it is mounted, and what it can do per second."""

    device: str
    mounts: tuple[str, ...] = ()
    rates: Rates = NO_RATES

    def record(self) -> dict[str, Any]:
        numbers = dict(zip(_RATE_KEYS, self.rates.numbers, strict=True))
        return {"device": self.device, "mounts": list(self.mounts), **numbers}


def disk_of(record: Mapping[str, Any]) -> Disk:
    """The disk in a record."""
    rates = Rates(*(int(record.get(key) or 0) for key in _RATE_KEYS))
    return Disk(str(record.get("device", "")), tuple(record.get("mounts") or ()), rates)


def disks_of(record: Record) -> dict[str, Disk]:
    """Device -> disk."""
    return {disk.device: disk for disk in map(disk_of, record.get("disks") or [])}


def covering_disk(disks: Mapping[str, Disk], path: str) -> str | None:
    """The device whose mount is the longest prefix of `path`, by whole path parts."""
    best, device = -1, None
    for name in sorted(disks):
        for mount in disks[name].mounts:
            root = mount.rstrip("/")
            if (path == root or path.startswith(f"{root}/")) and len(root) > best:
                best, device = len(root), name
    return device


def new_capacity(bag: Bag | None, info: EngineInfo, part: float) -> Record:
    """The record of a new node. Without any word on storage: `part` of what the engine reports."""
    bag = bag or {}
    volumes = _parse_volumes(bag, low=1)
    storage = _parse_storage(bag, low=0)
    if storage is None and volumes is None:
        storage = int(info.storage * part)
    volumes = volumes or {}
    disks = {disk.device: disk for disk in _parse_disks(bag, low=0) or []}
    return _record(volumes, disks, (storage or 0) + sum(volumes.values()))


def changed_capacity(capacity: Record, bag: Bag, *, delta: bool) -> Record:
    """The record after SetNode: numbers added with `delta`, else replaced where given.

    Without `delta`, `storage` alone is the new total, as it is shown; beside `volumes` it comes on top of them.
    """
    low = -BYTES_MAX if delta else 0
    volumes, storage, disks = _parse_volumes(bag, low=low), _parse_storage(bag, low=low), _parse_disks(bag, low=low)
    gone = [name.strip() for text in parse_texts("rm-disks", bag.get("rm-disks")) for name in text.split(",")]
    if gone and delta:
        raise InvalidInput("rm-disks cannot be combined with delta: send it alone")
    old_volumes, kept = dict(capacity.get("volumes") or {}), disks_of(capacity)
    loose = int(capacity.get("storage") or 0) - sum(old_volumes.values())
    if delta:
        merged = {**old_volumes}
        for path, size in (volumes or {}).items():
            merged[path] = merged.get(path, 0) + size
        loose += storage or 0
        for disk in disks or []:
            before = kept.get(disk.device, Disk(disk.device))
            mounts = tuple(dict.fromkeys(before.mounts + disk.mounts))
            kept[disk.device] = replace(before, mounts=mounts, rates=before.rates + disk.rates)
    else:
        merged = old_volumes if volumes is None else volumes
        if storage is not None:
            loose = storage if volumes is not None else storage - sum(merged.values())
        known = kept
        kept = dict(known) if disks is None else {disk.device: disk for disk in disks}
        for name in gone:
            if name not in known and name not in kept:
                raise InvalidInput(f"rm-disks {name!r} is no disk of this node, it has: {', '.join(sorted(known))}")
            kept.pop(name, None)
    for path, size in merged.items():
        if size < 0:
            raise InvalidInput(f"volumes: {path} would have {size} bytes: invalid volume")
    if loose < 0:
        total = sum(merged.values())
        raise InvalidInput(f"storage would be {loose + total} bytes, of which volumes have {total}: invalid storage")
    for disk in kept.values():
        if min(disk.rates.numbers) < 0:
            raise InvalidInput(f"disks: {disk.device} would have a negative rate: invalid disk")
    merged = {path: size for path, size in merged.items() if size}
    return _record(merged, kept, loose + sum(merged.values()))


def check_still_fits(before: Record, after: Record, usage: Record) -> None:
    """Refuse a change that takes away what is in use. Raises Refused, naming the part."""
    for path, used in (usage.get("volumes") or {}).items():
        had, has = (record.get("volumes", {}).get(path, 0) for record in (before, after))
        _keep(f"volume {path}", had, has, used)
    _keep("storage", before.get("storage", 0), after["storage"], usage.get("storage", 0))
    olds, news = disks_of(before), disks_of(after)
    for device, disk in disks_of(usage).items():
        had, has = (disks.get(device, Disk(device)).rates for disks in (olds, news))
        for name, old, new, used in zip(RATE_NAMES, had.numbers, has.numbers, disk.rates.numbers, strict=True):
            _keep(f"{name} of disk {device}", old, new, used)


def zero(capacity: Record) -> Record:
    """The usage of a node on which nothing runs."""
    disks = {device: replace(disk, rates=Rates()) for device, disk in disks_of(capacity).items()}
    return _record(dict.fromkeys(capacity.get("volumes") or {}, 0), disks, 0)


def _keep(part: str, old: int, new: int, used: int) -> None:
    if new < used and new < old:
        raise Refused(f"{part} cannot become {new}, {used} are in use: invalid resource capacity")


def _record(volumes: Mapping[str, int], disks: Mapping[str, Disk], storage: int) -> Record:
    if len(volumes) > NODE_VOLUMES_MAX or len(disks) > NODE_DISKS_MAX:
        raise InvalidInput(
            f"{len(volumes)} volumes and {len(disks)} disks, expected at most {NODE_VOLUMES_MAX} and {NODE_DISKS_MAX}"
        )
    return {
        "volumes": {path: volumes[path] for path in sorted(volumes)},
        "disks": [disks[device].record() for device in sorted(disks)],
        "storage": storage,
    }


def _parse_storage(bag: Bag, *, low: int) -> int | None:
    return parse_size("storage", bag["storage"], low=low) if given(bag.get("storage")) else None


def _parse_volumes(bag: Bag, *, low: int) -> dict[str, int] | None:
    if bag.get("volumes") is None:
        return None
    volumes: dict[str, int] = {}
    for index, text in enumerate(parse_texts("volumes", bag["volumes"])):
        path, colon, size = text.rpartition(":")
        if not colon or not path.startswith("/") or ":" in path:
            raise InvalidInput(f"volumes[{index}] {shown(text)} is not a volume, expected an absolute path as /data:1T")
        if path in volumes:
            raise InvalidInput(f"volumes[{index}] {shown(text)} names {path} twice")
        volumes[path] = parse_size(f"volumes[{index}] {path}", size, low=low)
    return volumes


def _parse_disks(bag: Bag, *, low: int) -> list[Disk] | None:
    if bag.get("disks") is None:
        return None
    found: list[Disk] = []
    for index, text in enumerate(parse_texts("disks", bag["disks"])):
        parts = [part.strip() for part in text.split(":")]
        if len(parts) != 6 or not parts[0]:
            raise InvalidInput(
                f"disks[{index}] {shown(text)} is not a disk, expected device:mount,mount:riops:wiops:rbps:wbps"
            )
        mounts = tuple(mount.strip() for mount in parts[1].split(",") if mount.strip())
        if not all(mount.startswith("/") for mount in mounts):
            raise InvalidInput(f"disks[{index}] {shown(text)} has a mount that is not an absolute path")
        rates = Rates(
            *(
                parse_size(f"disks[{index}] {name}", part, low=low) if part else 0
                for name, part in zip(RATE_NAMES, parts[2:], strict=True)
            )
        )
        if any(disk.device == parts[0] for disk in found):
            raise InvalidInput(f"disks[{index}] {shown(text)} names device {parts[0]} twice")
        found.append(Disk(parts[0], mounts, rates))
    return found
