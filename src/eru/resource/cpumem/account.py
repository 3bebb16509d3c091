"""Usage arithmetic: a node's usage is the sum of its grants' *request* values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eru.resource.contract import Grant, Record
from eru.resource.cpumem.cores import core_order


def zero(capacity: Record) -> Record:
    """The usage of a node on which nothing runs; it has every core and NUMA node of the capacity."""
    return {
        "cpu": 0.0,
        "cpu_map": dict.fromkeys(capacity.get("cpu_map") or {}, 0),
        "memory": 0,
        "numa": dict(capacity.get("numa") or {}),
        "numa_memory": dict.fromkeys(capacity.get("numa_memory") or {}, 0),
    }


def add(usage: Record, grants: Sequence[Grant]) -> Record:
    """`usage` with the grants on top."""
    return _moved(usage, grants, 1)


def subtract(usage: Record, grants: Sequence[Grant]) -> Record:
    """`usage` without the grants; no part goes below zero."""
    return _moved(usage, grants, -1)


def _moved(usage: Record, grants: Sequence[Grant], sign: int) -> Record:
    cpu = float(usage.get("cpu") or 0.0)
    memory = int(usage.get("memory") or 0)
    # An empty map is a map, too: the table knows by the very objects that nothing about cores has changed.
    cpu_map: dict[str, int] = {} if usage.get("cpu_map") is None else usage["cpu_map"]
    numa_memory: dict[str, int] = {} if usage.get("numa_memory") is None else usage["numa_memory"]
    for grant in grants:
        cpu += sign * (grant.get("cpu_request") or 0.0)
        memory += sign * (grant.get("memory_request") or 0)
        if cores := grant.get("cpu_map"):
            cpu_map = _summed(cpu_map, cores, sign)
        if sizes := grant.get("numa_memory"):
            numa_memory = _summed(numa_memory, sizes, sign)
    return {
        **usage,
        "cpu": max(0.0, round(cpu, 9)),
        "cpu_map": _not_negative(cpu_map),
        "memory": max(0, memory),
        "numa_memory": _not_negative(numa_memory),
    }


def _summed(parts: Mapping[str, int], more: Mapping[str, int], sign: int) -> dict[str, int]:
    after = dict(parts)
    for name, size in more.items():
        after[name] = after.get(name, 0) + sign * size
    return after


def _not_negative(parts: dict[str, int]) -> dict[str, int]:
    """The very same map when nothing in it is below zero: most deploys leave most parts of a node as they are."""
    return {name: max(0, size) for name, size in parts.items()} if min(parts.values(), default=0) < 0 else parts


def diffs(usage: Record, grants: Sequence[Grant]) -> list[str]:
    """One sentence per part in which `usage` is not the sum of `grants`."""
    summed = add({}, grants)
    found = []
    if abs((usage.get("cpu") or 0.0) - summed["cpu"]) > 5e-9 * (len(grants) + 1):
        found.append(_sentence("cpu", usage.get("cpu") or 0.0, summed["cpu"]))
    stored = usage.get("cpu_map") or {}
    for core in sorted(stored.keys() | summed["cpu_map"].keys(), key=core_order):
        if stored.get(core, 0) != summed["cpu_map"].get(core, 0):
            found.append(_sentence(f"pieces of core {core}", stored.get(core, 0), summed["cpu_map"].get(core, 0)))
    stored = usage.get("numa_memory") or {}
    for node in sorted(stored.keys() | summed["numa_memory"].keys(), key=core_order):
        if stored.get(node, 0) != summed["numa_memory"].get(node, 0):
            name = f"memory of NUMA node {node}"
            found.append(_sentence(name, stored.get(node, 0), summed["numa_memory"].get(node, 0)))
    if (usage.get("memory") or 0) != summed["memory"]:
        found.append(_sentence("memory", usage.get("memory") or 0, summed["memory"]))
    return found


def _sentence(part: str, stored: float, summed: float) -> str:
    return f"cpumem: {part} in use is recorded as {stored:.15g}, but the workloads sum up to {summed:.15g}"
