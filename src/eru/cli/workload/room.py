"""Whether nodes have room for changes of what workloads are granted, by the books that core shows.

Shared cores may be promised several times, as long as no workload wants more
than its node has; cores of a workload's own cannot. Core decides in the end:
this tells before what it would surely refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eru.cli.exits import human_bytes

Bag = Mapping[str, Mapping[str, Any]]
SHARE = 100  # pieces of a core, where the node does not tell
_BYTES = (("cpumem", "memory"), ("storage", "storage"))


def lacking(capacity: Bag, usage: Bag, granted: Sequence[Bag], delta: Bag) -> list[str]:
    """What one node lacks for the change `delta` of each of its workloads; `granted`: what they have."""
    return [*_cores(capacity, usage, granted, delta), *_sizes(capacity, usage, len(granted), delta)]


def _sizes(capacity: Bag, usage: Bag, count: int, delta: Bag) -> Iterable[str]:
    for kind, what in _BYTES:
        more = delta.get(kind, {}).get(f"{what}-request", 0) * count
        has = capacity.get(kind, {}).get(what, 0)
        free = has - usage.get(kind, {}).get(what, 0)
        if more > 0 and more > free and (has or kind == "cpumem"):
            yield f"{what} is short: {human_bytes(more)} more wanted, {human_bytes(free)} free"


def _cores(capacity: Bag, usage: Bag, granted: Sequence[Bag], delta: Bag) -> Iterable[str]:
    change = delta.get("cpumem", {})
    has = capacity.get("cpumem", {})
    cores: dict[str, int] = dict(has.get("cpu_map") or {})
    count = len(cores) or has.get("cpu") or 0
    used = usage.get("cpumem", {}).get("cpu_map") or {}
    free = {core: pieces - used.get(core, 0) for core, pieces in cores.items()}
    share = max(cores.values(), default=SHARE) or SHARE
    wanted: list[int] = []
    for each in granted:
        own = each.get("cpumem", {})
        request = own.get("cpu_request", 0) + change.get("cpu-request", 0)
        limit = own.get("cpu_limit", 0) + change.get("cpu-limit", 0)
        request = request or limit
        for core, pieces in (own.get("cpu_map") or {}).items():
            free[core] = free.get(core, 0) + pieces  # given back before it gets new ones
        if change.get("cpu-bind") or (change.get("keep-cpu-bind") and own.get("cpu_map")):
            wanted.append(round(max(request, limit) * share))
        elif request > count:
            yield f"cpu is short: {request:g} cores wanted, the node has {count:g}"
    if not wanted:
        return
    whole, pieces = sum(each // share for each in wanted), sum(wanted)
    there = sum(max(each, 0) for each in free.values())
    if pieces > there:
        yield f"cores of its own are short: {pieces / share:g} wanted, {there / share:g} free"
    elif whole > (idle := sum(each >= share for each in free.values())):
        yield f"whole cores of its own are short: {whole} wanted, {idle} free"
