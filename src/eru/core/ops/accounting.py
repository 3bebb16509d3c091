"""What a node has given away, compared with what its workloads were granted, and the repair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from eru.core import accounts
from eru.core.app import Core
from eru.core.ops.nodes import get_node
from eru.lib.retry import Backoff
from eru.lib.tasks import map_bounded
from eru.model.errors import Conflict, EruError, NotFound, OutcomeUnknown
from eru.model.intents import Intent
from eru.model.nodes import NodeResource, Resources
from eru.model.workloads import Workload
from eru.store.contract import KeyValue, Put, unchanged

ROUNDS_MAX = 16  # tries to see a node while it does not change
NODES_PARALLEL_MAX = 16
INSPECTS_PARALLEL_MAX = 32


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A node's record at one moment, and one sentence for everything that does not add up."""

    name: str
    capacity: Resources
    usage: Resources
    diffs: list[str]


class _Snapshot(msgspec.Struct, frozen=True):
    """Everything that counts on a node, as it was together at one moment."""

    record: NodeResource
    revision: int
    grants: list[Resources]
    workloads: list[Workload]


async def node_account(core: Core, name: str, *, fix: bool) -> Account:
    """Compare, and with `fix` write the usage anew as the sum of what is granted.

    Also asks the engine about every workload. Raises NotFound, Conflict.
    """
    await get_node(core, name)
    snapshot = await _fixed(core, name) if fix else await _snapshot(core, name)
    diffs = [*_diffs(core, snapshot), *await _inspected(core, name, snapshot.workloads)]
    return Account(name=name, capacity=snapshot.record.capacity, usage=snapshot.record.usage, diffs=diffs)


async def pod_accounts(core: Core, podname: str) -> AsyncIterator[Account | tuple[str, str]]:
    """Every node of the pod (podname "": of all) that is up, by name; (name, reason) for one that cannot be read."""
    await core.fleet.fresh()
    names = [found.name for found in core.fleet.view.nodes(podname) if found.up]

    async def one(name: str) -> Account | tuple[str, str]:
        try:
            snapshot = await _snapshot(core, name)
        except EruError as error:
            return name, str(error)
        record = snapshot.record
        return Account(name=name, capacity=record.capacity, usage=record.usage, diffs=_diffs(core, snapshot))

    for start in range(0, len(names), NODES_PARALLEL_MAX):
        for row in await map_bounded(names[start : start + NODES_PARALLEL_MAX], one, NODES_PARALLEL_MAX):
            yield row


def _diffs(core: Core, snapshot: _Snapshot) -> list[str]:
    found: list[str] = []
    for name, kind in core.kinds.items():
        grants = [grant[name] for grant in snapshot.grants if name in grant]
        found.extend(kind.diffs(snapshot.record.usage.get(name, {}), grants))
    return found


async def _fixed(core: Core, name: str) -> _Snapshot:
    key = core.keys.resource(name)
    backoff = Backoff(core.world, first_s=0.01, most_s=0.5)
    for _ in range(ROUNDS_MAX):
        snapshot = await _snapshot(core, name)
        capacity = snapshot.record.capacity
        empty = {kind: core.kinds[kind].zero(capacity.get(kind, {})) for kind in core.kinds}
        usage = {**snapshot.record.usage, **accounts.add(core.kinds, empty, snapshot.grants)}
        after = NodeResource(capacity=capacity, usage=usage)
        put = Put(key, after.encode())
        try:
            result = await core.store.txn([unchanged(key, snapshot.revision)], [put])
        except OutcomeUnknown:
            continue  # looking again tells; the repair is the same however often it is made
        if result.succeeded:
            core.fleet.committed(result.revision, [put])
            return msgspec.structs.replace(snapshot, record=after, revision=result.revision)
        await backoff.wait()
    raise Conflict(f"node {name} changed {ROUNDS_MAX} times while it was to be repaired; try again")


async def _snapshot(core: Core, name: str) -> _Snapshot:
    """Record, intents and workloads that belong together.

    Keys are read at one revision. Every change of what counts rewrites the
    resource record, except where a grant only changes hands: those are seen by
    a workload that has gone meanwhile. In both cases it is read again.
    """
    keys, store = core.keys, core.store
    backoff = Backoff(core.world, first_s=0.01, most_s=0.5)
    for _ in range(ROUNDS_MAX):
        living = await _all_at(core, keys.on_node(name), 0)
        busy = await _all_at(core, keys.intent(name), living[1])
        page = await store.range(keys.resource(name), limit=1, revision=living[1])
        if not page.items or page.items[0].key != keys.resource(name):
            raise NotFound(f"node {name!r} has no resource record: it does not exist any more")
        item = page.items[0]
        ids = [entry.key.rpartition("/")[2] for entry in living[0]]
        records = await store.get_many([keys.workload(id) for id in ids])
        now = await store.get(keys.resource(name))
        if len(records) == len(ids) and now is not None and now.mod_revision == item.mod_revision:
            workloads = [Workload.decode(records[keys.workload(id)].value) for id in ids]
            intents = [Intent.decode(entry.value) for entry in busy[0]]
            grants = [workload.grant for workload in workloads]
            grants.extend(intent.grant for intent in intents if intent.counted)
            return _Snapshot(NodeResource.decode(item.value), item.mod_revision, grants, workloads)
        await backoff.wait()
    raise Conflict(f"node {name} changed {ROUNDS_MAX} times while it was looked at; try again")


async def _all_at(core: Core, prefix: str, revision: int) -> tuple[list[KeyValue], int]:
    items: list[KeyValue] = []
    after = ""
    while True:
        page = await core.store.range(prefix, after=after, revision=revision)
        revision = revision or page.revision
        items.extend(page.items)
        if not page.more:
            return items, revision
        after = page.items[-1].key


async def _inspected(core: Core, name: str, workloads: list[Workload]) -> list[str]:
    """One sentence per workload that the engine cannot show."""
    if not workloads:
        return []
    engine = await core.engine_for(name)

    async def one(workload: Workload) -> str:
        try:
            async with asyncio.timeout(core.settings.engine_call_s):
                await engine.inspect(workload.id)
        except TimeoutError:
            return f"workload {workload.id} inspect failed: no answer within {core.settings.engine_call_s:g} s"
        except EruError as error:
            return f"workload {workload.id} inspect failed: {error}"
        return ""

    said = await map_bounded(workloads, one, INSPECTS_PARALLEL_MAX)
    return [sentence for sentence in said if sentence]
