"""What agents report: node heartbeats and workload statuses, and the streams of both.

A heartbeat that only renews its lease and a status that says nothing new write
nothing and cause no event.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from weakref import WeakKeyDictionary

from eru.core.app import Core
from eru.core.fanout import Burst
from eru.core.ops.workloads import get_workloads
from eru.core.reports import missing_error
from eru.core.statuses import NodeEvent
from eru.model.errors import InvalidInput, LeaseLost, NotFound
from eru.model.names import check_name
from eru.model.nodes import Heartbeat
from eru.model.requests import WorkloadFilter
from eru.model.workloads import WorkloadStatus
from eru.store.contract import Delete, Put, present

TTL_S_MAX = 365 * 86400
LEASES_MAX = 100_000  # remembered; a forgotten one only costs a read

# Nodes.


class _Leases:
    """Heartbeat leases that this core renews: node -> (lease, ttl in seconds)."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def get(self, node: str) -> tuple[int, int] | None:
        return self._known.get(node)

    def set(self, node: str, lease: int, ttl_s: int) -> None:
        self._known[node] = (lease, ttl_s)
        self._known.move_to_end(node)
        if len(self._known) > LEASES_MAX:
            self._known.popitem(last=False)

    def drop(self, node: str) -> None:
        self._known.pop(node, None)


_leases: WeakKeyDictionary[Core, _Leases] = WeakKeyDictionary()


async def set_node_status(core: Core, name: str, ttl_s: int) -> None:
    """`ttl_s` > 0: the node lives for that long; < 0: it is down now. Raises InvalidInput for 0, NotFound."""
    check_name("node name", name)
    if ttl_s == 0 or ttl_s > TTL_S_MAX:
        raise InvalidInput(f"ttl {ttl_s}: invalid TTL for node status, should be > 0 and at most {TTL_S_MAX} seconds")
    found = await core.fleet.node_surely(name)
    leases = _leases.setdefault(core, _Leases())
    key = core.keys.heartbeat(name)
    if ttl_s < 0:
        leases.drop(name)
        result = await core.store.txn([], [Delete(key)])
        core.events.node_said(name, up=False, detail="reported down: SetNodeStatus with a negative ttl")
        core.fleet.committed(result.revision, [Delete(key)])
        return
    if found.heartbeat and await _renewed(core, leases, name, ttl_s):
        return
    lease = await core.store.grant(ttl_s)
    podname = found.node.podname if found.node else ""
    put = Put(key, Heartbeat(nodename=name, podname=podname, at=core.world.clock.now()).encode(), lease)
    result = await core.store.txn([present(core.keys.node(name))], [put])
    if not result.succeeded:
        await core.store.revoke(lease)
        raise NotFound(f"node {name!r} does not exist")
    leases.set(name, lease, ttl_s)
    core.events.node_said(name, up=True, detail=f"reported up for {ttl_s} s")


async def _renewed(core: Core, leases: _Leases, name: str, ttl_s: int) -> bool:
    """Whether a lease of the same length was there and lives on: one round trip when this core granted it."""
    known = leases.get(name)
    if known is None:
        item = await core.store.get(core.keys.heartbeat(name))
        if item is None or not item.lease:
            return False
        known = (item.lease, ttl_s)
    elif known[1] != ttl_s:
        return False
    try:
        alive_s = await core.store.keep_alive(known[0])
    except LeaseLost:
        leases.drop(name)
        return False
    if alive_s != ttl_s:
        return False
    leases.set(name, known[0], ttl_s)
    return True


async def get_node_status(core: Core, name: str) -> NodeEvent:
    """Raises NotFound for an unknown node and for one that is down."""
    check_name("node name", name)
    revision = await core.fleet.fresh()
    found = core.fleet.node(name)
    if not found.heartbeat:
        raise NotFound(f"node {name!r} has no status: its agent does not report")
    return NodeEvent(name, found.node.podname if found.node else "", True, revision)


async def node_status_stream(core: Core) -> AsyncIterator[NodeEvent]:
    """Nodes that come alive or die, from now on. Raises Refused when the reader is too slow."""
    with core.fleet.node_events.subscribe() as events:
        async for event in events:
            yield event


# Workloads.


async def get_statuses(core: Core, ids: Sequence[str]) -> list[WorkloadStatus | None]:
    """In order; None for a workload that was never reported. Raises NotFound."""
    return [seen.status for seen in await get_workloads(core, ids)]


async def set_statuses(core: Core, reported: Sequence[WorkloadStatus]) -> None:
    """Write what is new. Raises NotFound when any workload does not exist, after the others were written."""
    missing = await core.reports.write(reported)
    if missing:
        raise missing_error(missing)


async def workload_status_stream(core: Core, wanted: WorkloadFilter) -> AsyncIterator[Burst]:
    """Statuses as they are written or vanish, from now on. Raises Refused when the reader is too slow."""
    with core.fanout.subscribe(wanted) as bursts:
        async for burst in bursts:
            yield burst
