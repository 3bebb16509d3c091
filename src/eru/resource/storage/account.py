"""Usage arithmetic: a node's usage is the sum of what its grants' *request* plans take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eru.resource.contract import Grant, Record
from eru.resource.storage.node import Disk, disk_of, disks_of
from eru.resource.storage.volumes import RATE_NAMES, Rates


def add(usage: Record, grants: Sequence[Grant]) -> Record:
    """`usage` with the grants on top."""
    return _moved(usage, grants, 1)


def subtract(usage: Record, grants: Sequence[Grant]) -> Record:
    """`usage` without the grants; no part goes below zero."""
    return _moved(usage, grants, -1)


def _moved(usage: Record, grants: Sequence[Grant], sign: int) -> Record:
    if "storage" in usage and not any(_takes(grant) for grant in grants):
        return usage  # nothing moves, as in every deploy that asks for no storage
    volumes = dict(usage.get("volumes") or {})
    disks = disks_of(usage)
    storage = int(usage.get("storage") or 0)
    for grant in grants:
        storage += sign * int(grant.get("storage_request") or 0)
        for lies in (grant.get("volume_plan_request") or {}).values():
            for path, size in lies.items():
                volumes[path] = volumes.get(path, 0) + sign * size
        for taken in map(disk_of, grant.get("disks_request") or []):
            disk = disks.get(taken.device) or Disk(taken.device)
            rates = disk.rates + taken.rates if sign > 0 else disk.rates - taken.rates
            disks[taken.device] = replace(disk, rates=rates)
    return {
        **usage,
        "volumes": {path: max(0, size) for path, size in volumes.items()},
        "disks": [_not_negative(disks[device]).record() for device in sorted(disks)],
        "storage": max(0, storage),
    }


def _takes(grant: Grant) -> bool:
    return any(grant.get(part) for part in ("storage_request", "volume_plan_request", "disks_request"))


def diffs(usage: Record, grants: Sequence[Grant]) -> list[str]:
    """One sentence per part in which `usage` is not the sum of `grants`."""
    summed = add({}, grants)
    found: list[str] = []
    stored = usage.get("volumes") or {}
    for path in sorted(stored.keys() | summed["volumes"].keys()):
        _compare(found, f"volume {path}", stored.get(path, 0), summed["volumes"].get(path, 0))
    disks, disks_summed = disks_of(usage), disks_of(summed)
    for device in sorted(disks.keys() | disks_summed.keys()):
        have = disks.get(device, Disk(device)).rates.numbers
        want = disks_summed.get(device, Disk(device)).rates.numbers
        for name, stored_rate, summed_rate in zip(RATE_NAMES, have, want, strict=True):
            _compare(found, f"{name} of disk {device}", stored_rate, summed_rate)
    _compare(found, "storage", int(usage.get("storage") or 0), summed["storage"])
    return found


def _compare(found: list[str], part: str, stored: int, summed: int) -> None:
    if stored != summed:
        found.append(f"storage: {part} in use is recorded as {stored}, but the workloads sum up to {summed}")


def _not_negative(disk: Disk) -> Disk:
    return replace(disk, rates=Rates(*(max(0, number) for number in disk.rates.numbers)))
