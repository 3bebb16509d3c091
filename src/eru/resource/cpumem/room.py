"""What is free on one node, and where bound instances go on it, NUMA node by NUMA node.

Instances go to NUMA nodes first, cores and memory from the same one, in
order of the NUMA node's number; what is left over of all of them serves
instances across NUMA nodes. The node's whole memory is never exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eru.resource.contract import Record
from eru.resource.cpumem import cores
from eru.resource.cpumem.cores import CoreMap, Shape, core_order

_NO_CUT = 1 << 62  # instances, when no memory is asked for


@dataclass(frozen=True, slots=True)
class Room:
    """Free pieces per core, free bytes, NUMA node of each core, free bytes per NUMA node."""

    free: CoreMap
    memory: int
    numa: Mapping[str, str]
    numa_memory: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Need:
    """One bound instance: how it lies on cores, and its bytes."""

    shape: Shape
    memory: int
    maxshare: int


@dataclass(frozen=True, slots=True)
class Place:
    """Cores of one instance; `numa_node` is "" when they are not all on one."""

    cores: CoreMap
    numa_node: str = ""


def room_of(capacity: Record, usage: Record) -> Room:
    """Free parts of a node; a part that is used beyond its capacity is simply not free."""
    used = usage.get("cpu_map") or {}
    numa_used = usage.get("numa_memory") or {}
    return Room(
        free={core: max(0, pieces - used.get(core, 0)) for core, pieces in (capacity.get("cpu_map") or {}).items()},
        memory=max(0, capacity.get("memory", 0) - usage.get("memory", 0)),
        numa=capacity.get("numa") or {},
        numa_memory={
            node: max(0, size - numa_used.get(node, 0)) for node, size in (capacity.get("numa_memory") or {}).items()
        },
    )


def likeness(room: Room) -> object:
    """Equal for rooms in which the same fits."""
    return (
        tuple(room.free.items()),
        room.memory,
        tuple(room.numa.items()),
        tuple(room.numa_memory.items()),
    )


def count(room: Room, need: Need) -> int:
    """How many bound instances fit: exactly as many as `places` can return."""
    most = _memory_cut(room.memory, need)
    if not room.numa:
        return min(most, cores.count(room.free, need.shape, need.maxshare))
    inside = 0
    left = dict(room.free)
    for _, plans in _inside(room, need, most):
        inside += len(plans)
        left = cores.take(left, plans)
    return min(most, inside + cores.count(left, need.shape, need.maxshare))


def places(room: Room, need: Need, most: int) -> list[Place]:
    """Places for up to `most` bound instances."""
    most = min(most, _memory_cut(room.memory, need))
    found: list[Place] = []
    left = dict(room.free)
    if room.numa:
        for node, plans in _inside(room, need, most):
            found += [Place(plan, node) for plan in plans]
            left = cores.take(left, plans)
    across = cores.plan(left, need.shape, need.maxshare, most - len(found))
    return found + [Place(plan) for plan in across]


def place_near(room: Room, need: Need, old: Mapping[str, int], old_node: str) -> Place | None:
    """A place for one instance, on its old cores and NUMA node as far as possible; None when there is no room."""
    if _memory_cut(room.memory, need) < 1:
        return None
    nodes = _nodes(room)
    for node in [old_node] * (old_node in nodes) + [node for node in nodes if node != old_node]:
        if _memory_cut(room.numa_memory.get(node, 0), need) < 1:
            continue
        plan = cores.plan_near(_cores_of(room, node), need.shape, need.maxshare, old)
        if plan is not None:
            return Place(plan, node)
    plan = cores.plan_near(room.free, need.shape, need.maxshare, old)
    return None if plan is None else Place(plan)


def _inside(room: Room, need: Need, most: int) -> Iterator[tuple[str, list[CoreMap]]]:
    """(NUMA node, its instances) for each node, `most` at all."""
    for node in _nodes(room):
        if most <= 0:
            return
        cut = min(most, _memory_cut(room.numa_memory.get(node, 0), need))
        plans = cores.plan(_cores_of(room, node), need.shape, need.maxshare, cut)
        most -= len(plans)
        yield node, plans


def _nodes(room: Room) -> list[str]:
    return sorted(set(room.numa.values()), key=core_order)


def _cores_of(room: Room, node: str) -> CoreMap:
    return {core: pieces for core, pieces in room.free.items() if room.numa.get(core) == node}


def _memory_cut(free: int, need: Need) -> int:
    return free // need.memory if need.memory else _NO_CUT
