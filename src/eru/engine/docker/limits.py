"""Engine parameters of the resource kinds as Docker's resource fields. Pure.

Understood keys, whatever kind they come from: `cpu` (cores, 0: no limit),
`cpu_map` (core id -> pieces; empty: unbound), `memory` (bytes, 0 or the
largest int64: no limit), `numa_node`, `remap` (the cores are the node's share
pool, the limit stays), `storage`, `volumes`, `volume_changed` and
`iops_options` (device -> "riops:wiops:rbps:wbps").
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from eru.engine.contract import EngineLimits
from eru.model.errors import EngineRefused, InvalidInput
from eru.model.nodes import Resources

CPU_PERIOD_US = 100_000
CPU_QUOTA_US_MIN = 1_000  # the kernel takes no less
CPU_SHARES = 1024
UNLIMITED = (1 << 63) - 1
_SIZE = re.compile(r"(\d+)([kmgtp]?)i?b?", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def merged(params: Resources) -> dict[str, Any]:
    """All kinds' parameters as one object; later kinds by name win, always in the same order."""
    result: dict[str, Any] = {}
    for kind in sorted(params):
        result.update(params[kind] or {})
    return result


def create_limits(params: Mapping[str, Any], limits: EngineLimits) -> dict[str, Any]:
    """The resource part of HostConfig for a new container."""
    return {**_cpu(params), **_memory(params, limits), **_block_devices(params)}


def update_limits(params: Mapping[str, Any], limits: EngineLimits, ncpu: int) -> dict[str, Any]:
    """The body of a live update. `ncpu`: all cores of the machine, for workloads that are not bound.

    The quota goes straight to its new value. Raises EngineRefused for what cannot change while it runs.
    """
    if params.get("volume_changed"):
        raise EngineRefused("docker cannot change the volumes of a workload that exists: replace it instead")
    body: dict[str, Any] = {}
    if "cpu" in params or "cpu_map" in params:
        body.update(_cpu(params))
        if not params.get("cpu_map"):
            body["CpusetCpus"], body["CpusetMems"] = ",".join(map(str, range(max(ncpu, 1)))), ""
        if not body["CpuQuota"]:
            body["CpuQuota"] = -1
    if "memory" in params:
        body.update(_memory(params, limits))
        if not body["Memory"]:
            # 0 would mean "as it is", and Docker takes no -1 here: the largest number lifts the limit.
            body.update(Memory=UNLIMITED, MemorySwap=UNLIMITED, MemoryReservation=0)
    return {**body, **_block_devices(params)}


def _cpu(params: Mapping[str, Any]) -> dict[str, Any]:
    cpu = float(params.get("cpu") or 0)
    if not 0 <= cpu < 1e6:
        raise InvalidInput(f"CPU limit {cpu} must be a number of cores that is not negative")
    quota = max(round(cpu * CPU_PERIOD_US), CPU_QUOTA_US_MIN) if cpu else 0
    cores = params.get("cpu_map") or {}
    if not cores:
        return {"CpuPeriod": CPU_PERIOD_US, "CpuQuota": quota, "CpuShares": CPU_SHARES}
    fields = {"CpuPeriod": CPU_PERIOD_US, "CpuShares": CPU_SHARES, "CpusetCpus": ",".join(sorted(cores, key=_core))}
    if params.get("numa_node"):
        fields["CpusetMems"] = str(params["numa_node"])
    if params.get("remap"):
        return {**fields, "CpuQuota": quota or -1}
    fraction = round(cpu - math.floor(cpu), 9)
    if fraction:
        fields["CpuShares"] = max(round(CPU_SHARES * fraction), 2)
    return {**fields, "CpuQuota": -1}


def _core(id: str) -> tuple[int, str]:
    return (int(id), "") if id.isdigit() else (1 << 30, id)


def _memory(params: Mapping[str, Any], limits: EngineLimits) -> dict[str, int]:
    memory = int(params.get("memory") or 0)
    if memory < 0:
        raise InvalidInput(f"memory limit {memory} is negative, expected bytes or 0 for no limit")
    if memory == 0 or memory >= UNLIMITED:
        return {"Memory": 0, "MemorySwap": 0, "MemoryReservation": 0}
    if memory < limits.memory_floor:
        raise EngineRefused(
            f"memory limit {memory} is below {limits.memory_floor} bytes, the least that docker starts: ask for more"
        )
    reservation = min(max(memory // 2, limits.memory_reservation_floor), memory)
    return {"Memory": memory, "MemorySwap": memory, "MemoryReservation": reservation}


def _block_devices(params: Mapping[str, Any]) -> dict[str, Any]:
    options = params.get("iops_options") or {}
    fields: dict[str, list[dict[str, Any]]] = {}
    names = ("BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "BlkioDeviceReadBps", "BlkioDeviceWriteBps")
    for device in sorted(options):
        numbers = [size(part) for part in str(options[device]).split(":")]
        if len(numbers) != len(names):
            raise InvalidInput(f"iops_options of {device}: {options[device]!r} must be riops:wiops:rbps:wbps")
        for name, number in zip(names, numbers, strict=True):
            if number:
                fields.setdefault(name, []).append({"Path": device, "Rate": number})
    return fields


def size(text: str) -> int:
    """Bytes of `512`, `10M`, `1GiB`; empty is 0. Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip() or "0")
    if match is None:
        raise InvalidInput(f"{text!r} is no size: use a number with k, m, g, t or p")
    return int(match[1]) * _FACTOR[match[2].lower()]
