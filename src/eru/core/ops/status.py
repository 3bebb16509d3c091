"""What agents report: node heartbeats and workload statuses, and the streams of both.

A heartbeat that only renews its lease and a status that says nothing new write
nothing and cause no event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from weakref import WeakKeyDictionary
from zlib import crc32

import msgspec

from eru.core.app import Core
from eru.core.ops.workloads import Seen, carries, get_workloads, status_key
from eru.core.statuses import NodeEvent, StatusEvent
from eru.lib.retry import Backoff
from eru.model.errors import Conflict, EruError, InvalidInput, LeaseLost, NotFound
from eru.model.names import check_name
from eru.model.nodes import Heartbeat
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Workload, WorkloadStatus
from eru.store.contract import Delete, KeyValue, Put, Write, present

TTL_S_MAX = 365 * 86400
LEASES_MAX = 100_000  # remembered; a forgotten one only costs a read
BATCH = 40  # statuses in one transaction
ROUNDS_MAX = 8  # tries against concurrent changes
STREAM_CACHE_MAX = 4096  # workload records kept for the streams
STREAM_LOCKS = 64  # reads of different records that do not wait for each other
STREAM_CACHE_S = 1.0  # age up to which they are used

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
    """Write what is new. Raises NotFound when any workload does not exist, after the others were written.

    App, entrypoint and node are taken from the workload's record, whatever was
    reported. With a TTL the status vanishes that long after the last report.
    """
    missing: list[str] = []
    for start in range(0, len(reported), BATCH):
        missing.extend(await _set_batch(core, reported[start : start + BATCH]))
    if missing:
        names = ", ".join(missing[:5])
        raise NotFound(f"workload {names} does not exist" if len(missing) == 1 else f"workloads {names} do not exist")


async def _set_batch(core: Core, reported: Sequence[WorkloadStatus]) -> list[str]:
    """The ids that do not exist."""
    keys = core.keys
    backoff = Backoff(core.world, first_s=0.01, most_s=0.5)
    for _ in range(ROUNDS_MAX):
        records = await core.store.get_many([keys.workload(status.id) for status in reported])
        places: dict[str, WorkloadStatus] = {}
        missing = []
        for status in reported:
            record = records.get(keys.workload(status.id))
            if record is None:
                missing.append(status.id)
                continue
            place, complete = _placed(core, Workload.decode(record.value), status)
            places[place] = complete
        stored = await core.store.get_many(list(places))
        writes: list[Write] = []
        touched: list[str] = []
        for place, status in places.items():
            if not await _unchanged(core, stored.get(place), status):
                lease = await core.store.grant(status.ttl_s) if status.ttl_s else 0
                writes.append(Put(place, status.encode(), lease))
                touched.append(status.id)
        if not writes:
            return missing
        result = await core.store.txn([present(keys.workload(id)) for id in touched], writes)
        if result.succeeded:
            return missing
        for write in writes:
            if isinstance(write, Put) and write.lease:
                await core.store.revoke(write.lease)
        await backoff.wait()  # one of them was removed meanwhile: find out which
    raise Conflict(f"workloads changed {ROUNDS_MAX} times while their status was to be written; try again")


def _placed(core: Core, workload: Workload, status: WorkloadStatus) -> tuple[str, WorkloadStatus]:
    key = status_key(core, workload)
    _, (app, entrypoint, nodename, _) = core.keys.split(key)
    return key, msgspec.structs.replace(status, appname=app, entrypoint=entrypoint, nodename=nodename)


async def _unchanged(core: Core, item: KeyValue | None, status: WorkloadStatus) -> bool:
    """Whether the store says the same already; a lease of the same length is renewed."""
    if item is None or item.value != status.encode() or bool(item.lease) != bool(status.ttl_s):
        return False
    if not status.ttl_s:
        return True
    try:
        return await core.store.keep_alive(item.lease) == status.ttl_s
    except LeaseLost:
        return False


class Changed(msgspec.Struct, frozen=True):
    """A status event with its workload; `error` instead of the workload when that cannot be loaded.

    Equal `id` and `revision`: the same event, seen by several readers.
    """

    id: str
    revision: int
    deleted: bool
    seen: Seen | None = None
    error: str = ""


class _Records:
    """Workload records shared by all streams of a core, so that a hundred readers cost one read."""

    def __init__(self, core: Core) -> None:
        self._clock = core.world.clock
        self._kept: OrderedDict[str, tuple[float, Workload]] = OrderedDict()
        self._locks = [asyncio.Lock() for _ in range(STREAM_LOCKS)]

    async def get(self, core: Core, id: str) -> Workload:
        kept = self._fresh(id)
        if kept is not None:
            return kept
        async with self._locks[crc32(id.encode()) % STREAM_LOCKS]:
            return self._fresh(id) or await self._read(core, id)

    def _fresh(self, id: str) -> Workload | None:
        kept = self._kept.get(id)
        if kept is None or self._clock.monotonic() - kept[0] > STREAM_CACHE_S:
            return None
        return kept[1]

    async def _read(self, core: Core, id: str) -> Workload:
        workload = (await core.workloads([id]))[0].workload
        self._kept[id] = (self._clock.monotonic(), workload)
        self._kept.move_to_end(id)
        if len(self._kept) > STREAM_CACHE_MAX:
            self._kept.popitem(last=False)
        return workload

    def drop(self, id: str) -> None:
        self._kept.pop(id, None)


_records: WeakKeyDictionary[Core, _Records] = WeakKeyDictionary()


async def workload_status_stream(core: Core, wanted: WorkloadFilter) -> AsyncIterator[Changed]:
    """Statuses as they are written or vanish, from now on. Raises Refused when the reader is too slow."""
    records = _records.get(core) or _records.setdefault(core, _Records(core))
    with core.fleet.statuses.subscribe(_narrowed(wanted)) as events:
        async for event in events:
            try:
                if event.status is None:
                    records.drop(event.id)
                workload = await records.get(core, event.id)
            except EruError as error:
                if not wanted.labels:
                    yield Changed(event.id, event.revision, event.status is None, None, str(error))
                continue
            if carries(workload, wanted.labels):
                yield Changed(event.id, event.revision, event.status is None, Seen(workload, event.status))


def _narrowed(wanted: WorkloadFilter) -> Callable[[StatusEvent], bool] | None:
    """App, then entrypoint, then node; after the first empty one the rest does not count."""
    parts: list[str] = []
    for part in (wanted.appname, wanted.entrypoint, wanted.nodename):
        if not part:
            break
        parts.append(part)
    if not parts:
        return None
    prefix = tuple(parts)
    size = len(prefix)
    return lambda event: (event.appname, event.entrypoint, event.nodename)[:size] == prefix
