"""What a node has of CPU and memory: read from AddNode and SetNode bags, checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from eru.model.errors import InvalidInput, Refused
from eru.model.nodes import EngineInfo
from eru.resource.contract import Bag, Record
from eru.resource.cpumem.cores import CoreMap, core_order
from eru.resource.units import BYTES_MAX, given, parse_size, parse_texts, parse_whole, shown

NODE_CORES_MAX = 4096  # cores of one node
CORE_PIECES_MAX = 1_000_000  # pieces of one core
NODE_PIECES_MAX = 10_000_000  # pieces of one node, so that planning on it stays quick


@dataclass(slots=True)
class NodeBag:
    """What the bag says; None: nothing."""

    cpu_map: CoreMap | None = None
    memory: int | None = None
    numa: dict[str, str] | None = None
    numa_memory: dict[str, int] | None = None


@dataclass(slots=True)
class Detected:
    """What the engine says of its machine."""

    ncpu: int = 0
    memory: int = 0
    numa: dict[str, str] = field(default_factory=dict)
    numa_memory: dict[str, int] = field(default_factory=dict)


def parse_node(bag: Bag | None, sharebase: int, *, delta: bool = False) -> NodeBag:
    """The bag of a node request. With `delta` numbers may be negative or zero."""
    bag = bag or {}
    share = bag.get("share")
    share = parse_whole("share", share, low=0, most=CORE_PIECES_MAX) if given(share) else 0
    asked = NodeBag()
    if given(bag.get("cpu")):
        asked.cpu_map = _parse_cpu(bag["cpu"], share or sharebase, delta=delta)
    if given(bag.get("memory")):
        asked.memory = parse_size("memory", bag["memory"], low=-BYTES_MAX if delta else 1)
    if numa := parse_texts("numa-cpu", bag.get("numa-cpu")):
        asked.numa = _parse_numa(numa)
    sizes = bag.get("numa-memory")
    if sizes:
        if not isinstance(sizes, list | tuple):
            raise InvalidInput(f"numa-memory {shown(sizes)} is not a list of sizes")
        low = -BYTES_MAX if delta else 0
        asked.numa_memory = {str(i): parse_size(f"numa-memory[{i}]", size, low=low) for i, size in enumerate(sizes)}
    return asked


def detect(info: EngineInfo) -> Detected:
    """Cores and memory by the engine; its own cpumem record, if it has one, goes before the plain numbers."""
    raw = info.resources.get("cpumem")
    if not raw:
        return Detected(ncpu=min(info.ncpu, NODE_CORES_MAX), memory=info.memory)
    try:
        said = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the engine's own cpumem record cannot be read: {error}") from error
    numa_memory = {
        str(node): parse_size(f"numa_memory[{node}]", size) for node, size in (said.get("numa_memory") or {}).items()
    }
    return Detected(
        ncpu=parse_whole("cpu", said.get("cpu") or 0, most=NODE_CORES_MAX),
        memory=parse_size("memory", said.get("memory") or 0),
        numa={str(core): str(node) for core, node in (said.get("numa") or {}).items()},
        numa_memory=numa_memory,
    )


def new_capacity(asked: NodeBag, found: Detected, sharebase: int, memory_part: float) -> Record:
    """The capacity record of a new node: what is asked for, else what the engine has."""
    numa, numa_memory, cpu_map, memory = asked.numa, asked.numa_memory, asked.cpu_map, asked.memory
    if cpu_map is None:
        if found.ncpu <= 0:
            raise InvalidInput("cpu is not given and the engine reports no cores: give cpu: invalid resource capacity")
        cpu_map = {str(core): sharebase for core in range(found.ncpu)}
        numa = numa or found.numa
    if memory is None:
        memory = int(found.memory * memory_part)
        if memory <= 0:
            raise InvalidInput(
                "memory is not given and the engine reports none: give memory: invalid resource capacity"
            )
        if numa is found.numa:
            numa_memory = numa_memory or {node: int(size * memory_part) for node, size in found.numa_memory.items()}
    if numa and not numa_memory:
        nodes = sorted(set(numa.values()), key=core_order)
        numa_memory = {node: memory // len(nodes) for node in nodes}
    return checked(record(cpu_map, memory, numa or {}, numa_memory or {}))


def changed_capacity(capacity: Record, asked: NodeBag, *, delta: bool) -> Record:
    """The capacity record after SetNode: numbers added with `delta`, else replaced where given."""
    cpu_map = dict(capacity.get("cpu_map") or {})
    memory = int(capacity.get("memory", 0))
    numa_memory = dict(capacity.get("numa_memory") or {})
    if delta:
        for core, pieces in (asked.cpu_map or {}).items():
            cpu_map[core] = cpu_map.get(core, 0) + pieces
        memory += asked.memory or 0
        for node, size in (asked.numa_memory or {}).items():
            numa_memory[node] = numa_memory.get(node, 0) + size
    else:
        cpu_map = cpu_map if asked.cpu_map is None else asked.cpu_map
        memory = memory if asked.memory is None else asked.memory
        numa_memory = numa_memory if asked.numa_memory is None else asked.numa_memory
    numa = dict(capacity.get("numa") or {}) if asked.numa is None else asked.numa
    if asked.numa is None:  # a core that is gone takes its place in the map with it
        numa = {core: node for core, node in numa.items() if cpu_map.get(core)}
    elif not numa_memory:
        nodes = sorted(set(numa.values()), key=core_order)
        numa_memory = {node: memory // len(nodes) for node in nodes}
    return checked(record(cpu_map, memory, numa, numa_memory))


def record(cpu_map: CoreMap, memory: int, numa: dict[str, str], numa_memory: dict[str, int]) -> Record:
    """A node record with its cores counted; cores without pieces are none."""
    ordered = {core: cpu_map[core] for core in sorted(cpu_map, key=core_order) if cpu_map[core]}
    return {"cpu": len(ordered), "cpu_map": ordered, "memory": memory, "numa": numa, "numa_memory": numa_memory}


def checked(capacity: Record) -> Record:
    """The record itself if it makes sense. Raises InvalidInput."""
    cpu_map, numa, numa_memory = capacity["cpu_map"], capacity["numa"], capacity["numa_memory"]
    if not cpu_map:
        raise InvalidInput("cpu: a node needs at least one core: invalid cpu map: invalid resource capacity")
    if len(cpu_map) > NODE_CORES_MAX or sum(cpu_map.values()) > NODE_PIECES_MAX:
        raise InvalidInput(
            f"cpu: {len(cpu_map)} cores with {sum(cpu_map.values())} pieces, expected at most {NODE_CORES_MAX} cores "
            f"with {NODE_PIECES_MAX} pieces in all: invalid cpu map"
        )
    for core, pieces in cpu_map.items():
        if pieces < 0:
            raise InvalidInput(f"cpu: core {core} would have {pieces} pieces: invalid cpu map")
    if capacity["memory"] < 0:
        raise InvalidInput(f"memory would be {capacity['memory']} bytes: invalid memory")
    for node, size in numa_memory.items():
        if size < 0:
            raise InvalidInput(f"numa-memory of NUMA node {node} would be {size} bytes: invalid numa memory")
    if numa:
        _check_numa(cpu_map, numa, numa_memory)
    return capacity


def check_still_fits(before: Record, after: Record, usage: Record) -> None:
    """Refuse a change that takes away what is in use. Raises Refused, naming the part."""
    for core, used in (usage.get("cpu_map") or {}).items():
        new = after["cpu_map"].get(core, 0)
        _keep(f"core {core}", "pieces", before["cpu_map"].get(core, 0), new, used)
    _keep("memory", "bytes", before.get("memory", 0), after["memory"], usage.get("memory", 0))
    for node, used in (usage.get("numa_memory") or {}).items():
        had = (before.get("numa_memory") or {}).get(node, 0)
        _keep(f"memory of NUMA node {node}", "bytes", had, after["numa_memory"].get(node, 0), used)


def _keep(part: str, unit: str, old: int, new: int, used: int) -> None:
    if new < used and new < old:
        raise Refused(f"{part} cannot become {new} {unit}, {used} are in use: invalid resource capacity")


def _check_numa(cpu_map: CoreMap, numa: dict[str, str], numa_memory: dict[str, int]) -> None:
    for core in cpu_map:
        if core not in numa:
            raise InvalidInput(f"numa-cpu: core {core} belongs to no NUMA node: invalid numa cpu")
    for core, node in numa.items():
        if core not in cpu_map:
            raise InvalidInput(f"numa-cpu: NUMA node {node} has core {core}, which the node does not: invalid numa cpu")
        if node not in numa_memory:
            raise InvalidInput(f"numa-memory: NUMA node {node} has no memory: invalid numa memory")


def _parse_cpu(value: Any, share: int, *, delta: bool) -> CoreMap:
    """A number of cores, or `id:pieces,...`, or the same as a JSON object."""
    if isinstance(value, dict):
        return _pairs(value, [(str(core), pieces) for core, pieces in value.items()], delta=delta)
    if isinstance(value, str) and ":" in value:
        pairs = []
        for part in value.split(","):
            core, colon, pieces = part.strip().partition(":")
            if not colon or ":" in pieces:
                raise _bad_cpu(value)
            pairs.append((core.strip(), pieces.strip()))
        return _pairs(value, pairs, delta=delta)
    try:
        cores = round(float(value)) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        cores = None
    if cores is None:
        raise _bad_cpu(value)
    low = -NODE_CORES_MAX if delta else 1
    if not low <= cores <= NODE_CORES_MAX:
        raise InvalidInput(f"cpu {shown(value)} is out of range, expected {low} to {NODE_CORES_MAX} cores: invalid cpu")
    return {str(core): share if cores > 0 else -share for core in range(abs(cores))}


def _pairs(value: Any, pairs: list[tuple[str, Any]], *, delta: bool) -> CoreMap:
    low = -CORE_PIECES_MAX if delta else 0
    cpu_map: CoreMap = {}
    for core, pieces in pairs:
        if not core.isascii() or not core.isdigit() or len(core) > 6 or (core != "0" and core.startswith("0")):
            raise _bad_cpu(value)
        if core in cpu_map:
            raise InvalidInput(f"cpu {shown(value)} names core {core} twice: invalid cpu map")
        cpu_map[core] = parse_whole(f"cpu: pieces of core {core}", pieces, low=low, most=CORE_PIECES_MAX)
    return cpu_map


def _parse_numa(groups: list[str]) -> dict[str, str]:
    numa: dict[str, str] = {}
    for index, group in enumerate(groups):
        for part in group.split(","):
            core = part.strip()
            if not core.isascii() or not core.isdigit():
                raise InvalidInput(
                    f"numa-cpu[{index}] {shown(group)} is not a list of cores such as 0,1,2: invalid numa cpu"
                )
            if core in numa:
                raise InvalidInput(f"numa-cpu: core {core} is in NUMA nodes {numa[core]} and {index}: invalid numa cpu")
            numa[core] = str(index)
    return numa


def _bad_cpu(value: Any) -> InvalidInput:
    return InvalidInput(
        f"cpu {shown(value)} is not understood, expected a number of cores such as 4 "
        f"or pieces per core such as 0:100,1:100: invalid cpu"
    )
