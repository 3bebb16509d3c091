"""Nodes: add, look at, change, remove.

Adding and removing are one transaction each: node, resource record,
certificates and heartbeat come and go together, so that nothing can leak and
two requests for one name cannot both win.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

import msgspec

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.view import NodeView
from eru.core.watchdog import mark_down
from eru.engine.contract import Engine
from eru.lib.retry import Backoff
from eru.lib.tasks import map_bounded
from eru.model.errors import (
    AlreadyExists,
    Conflict,
    EruError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Refused,
)
from eru.model.names import check_name
from eru.model.nodes import EngineInfo, Node, NodeResource, NodeTLS, Resources
from eru.model.requests import NewNode, NodeChange
from eru.resource.contract import Bag, Record
from eru.store.contract import VALUE_BYTES_MAX, Compare, Delete, Put, Write, absent, present, unchanged

T = TypeVar("T")

ROUNDS_MAX = 16  # tries against concurrent changes
INFO_PARALLEL_MAX = 64  # engines asked at a time by one listing
TEST_SCHEME = "mock://"  # such nodes need no heartbeat


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One node as clients see it. `info` or the reason why there is none, when it was asked for."""

    node: Node
    capacity: Resources
    usage: Resources
    available: bool
    info: EngineInfo | None = None
    info_error: str = ""
    found: NodeView | None = None  # where it was seen


def seen(found: NodeView) -> NodeInfo:
    """A node of the live view."""
    if found.node is None:
        raise NotFound(f"node {found.name!r} does not exist")
    return NodeInfo(node=found.node, capacity=found.capacity, usage=found.usage, available=found.available, found=found)


async def get_node(core: Core, name: str) -> NodeInfo:
    """Raises NotFound."""
    check_name("node name", name)
    await core.fleet.fresh()
    return seen(core.fleet.node(name))


async def engine_type(core: Core, name: str) -> str:
    """What kind of engine the node has. Raises NotFound, EngineError."""
    await get_node(core, name)
    engine = await core.engine_for(name)
    await bounded(engine.ping(), core.settings.engine_call_s, f"engine of node {name}")
    return engine.type


async def list_nodes(
    core: Core, podname: str, labels: Mapping[str, str], *, everything: bool, with_info: bool, timeout_s: float
) -> AsyncIterator[NodeInfo]:
    """Nodes by name, of one pod or (podname "") of all; without `everything` only those that are up.

    `with_info` asks the engines, all within `timeout_s`; those that do not
    answer are not available.
    """
    await core.fleet.fresh()
    chosen = [
        seen(found) for found in core.fleet.view.nodes(podname) if (everything or found.up) and _has(found, labels)
    ]
    if not with_info:
        for row in chosen:
            yield row
        return
    deadline = asyncio.get_running_loop().time() + timeout_s
    for start in range(0, len(chosen), INFO_PARALLEL_MAX):
        part = chosen[start : start + INFO_PARALLEL_MAX]
        for row in await map_bounded(part, lambda row: _asked(core, row, deadline, timeout_s), INFO_PARALLEL_MAX):
            yield row


async def _asked(core: Core, row: NodeInfo, deadline: float, timeout_s: float) -> NodeInfo:
    """The node with its engine's answer, or the reason why there is none."""
    try:
        async with asyncio.timeout_at(deadline):
            engine = await core.engine_for(row.node)
            return msgspec.structs.replace(row, info=await engine.info())
    except TimeoutError:
        error = f"engine of node {row.node.name} did not answer within {timeout_s:g} s"
    except EruError as failed:
        error = str(failed)
    return msgspec.structs.replace(row, info_error=error, available=False)


def _has(found: NodeView, labels: Mapping[str, str]) -> bool:
    has = found.node.labels if found.node else {}
    return all(has.get(key) == value for key, value in labels.items())


async def add_node(core: Core, new: NewNode) -> NodeInfo:
    """Add a machine whose engine answers. Raises AlreadyExists, NotFound (pod), EngineError, InvalidInput."""
    core.engines.check_endpoint(new.endpoint)
    keys = core.keys
    found = await core.store.get_many([keys.pod(new.podname), keys.node(new.name)])
    pod = found.get(keys.pod(new.podname))
    if pod is None:
        raise NotFound(f"pod {new.podname!r} does not exist: add it first")
    if keys.node(new.name) in found:
        raise _taken(new.name)
    async with core.engines.private(new.endpoint, new.tls) as engine:
        info = await _info(core, new.name, engine)
    capacity, usage = await _first_resources(core, new, info)
    node = Node(
        name=new.name,
        podname=new.podname,
        endpoint=new.endpoint,
        labels=new.labels,
        test=new.test or new.endpoint.startswith(TEST_SCHEME),
        has_tls=new.tls is not None,
        created_at=core.world.clock.now(),
    )
    writes: list[Write] = [
        _put(keys.node(new.name), node.encode(), "node"),
        _put(keys.resource(new.name), NodeResource(capacity=capacity, usage=usage).encode(), "resources of the node"),
        Put(keys.pod(new.podname), pod.value),  # see `ops.pods`
    ]
    if new.tls is not None:
        writes.append(_put(keys.node_tls(new.name), new.tls.encode(), "certificates of the node"))
    await _enter(core, node, writes)
    return NodeInfo(node=node, capacity=capacity, usage=usage, available=True)


async def _enter(core: Core, node: Node, writes: list[Write]) -> None:
    keys = core.keys
    compares = [absent(keys.node(node.name)), absent(keys.resource(node.name)), present(keys.pod(node.podname))]
    try:
        result = await core.store.txn(compares, writes)
    except OutcomeUnknown:
        item = await core.store.get(keys.node(node.name))
        if item is not None and item.value == node.encode():
            await core.fleet.caught_up(item.mod_revision)
            return
        raise
    if result.succeeded:
        core.fleet.committed(result.revision, writes)
        return
    if await core.store.get(keys.pod(node.podname)) is None:
        raise NotFound(f"pod {node.podname!r} does not exist any more")
    raise _taken(node.name)


def _taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"node {name!r}: node already exists")


async def _info(core: Core, name: str, engine: Engine) -> EngineInfo:
    return await bounded(engine.info(), core.settings.engine_call_s, f"engine of node {name}")


async def _first_resources(core: Core, new: NewNode, info: EngineInfo) -> tuple[Resources, Resources]:
    named = msgspec.structs.replace(info, nodename=new.name)

    def first() -> tuple[Resources, Resources]:
        capacity: Resources = {}
        usage: Resources = {}
        for name, kind in core.kinds.items():
            capacity[name], usage[name] = kind.node_added(new.resources.get(name), named)
        return capacity, usage

    return await _pure(core, first)


async def _pure(core: Core, work: Callable[[], T]) -> T:
    """Arithmetic of the kinds; in a thread when one of them is slow."""
    if any(kind.blocking for kind in core.kinds.values()):
        return await asyncio.to_thread(work)
    return work()


def _put(key: str, value: bytes, what: str) -> Put:
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"the {what} would take {len(value)} bytes in the store, at most {VALUE_BYTES_MAX} are allowed"
        )
    return Put(key, value)


async def remove_node(core: Core, name: str) -> None:
    """Remove a node without workloads. Raises NotFound, Refused while anything lives or is under way there.

    Whatever is reserved on a node changes its resource record, which this
    compares: a deploy that came in between wins.
    """
    check_name("node name", name)
    keys, store = core.keys, core.store
    for _ in range(ROUNDS_MAX):
        found = await store.get_many([keys.node(name), keys.resource(name)])
        if keys.node(name) not in found:
            raise NotFound(f"node {name!r} does not exist")
        busy = await store.range(keys.intent(name), limit=1, keys_only=True)
        living = await store.range(keys.on_node(name), limit=1, keys_only=True)
        if living.items:
            raise Refused(
                f"node {name}: node not empty, still has workloads associated; remove or dissociate them first"
            )
        if busy.items and await core.recovery.give_up(name):
            continue
        if busy.items:
            raise Refused(f"node {name} is busy: {busy.items[0].key.rpartition('/')[2]} is being worked on; try again")
        resource = found.get(keys.resource(name))
        revision = resource.mod_revision if resource is not None else 0
        writes: list[Write] = [
            Delete(key) for key in (keys.node(name), keys.resource(name), keys.node_tls(name), keys.heartbeat(name))
        ]
        try:
            result = await store.txn([present(keys.node(name)), unchanged(keys.resource(name), revision)], writes)
        except OutcomeUnknown:
            if await store.get(keys.node(name)) is None:
                return
            raise
        if result.succeeded:
            core.fleet.committed(result.revision, writes)
            return
    raise Conflict(f"node {name} changed {ROUNDS_MAX} times while it was to be removed; try again")


async def set_node(core: Core, change: NodeChange) -> NodeInfo:
    """Change a node in one guarded transaction. Raises NotFound, InvalidInput, Conflict, Refused."""
    if change.endpoint:
        core.engines.check_endpoint(change.endpoint)
    result = await _set(core, change)
    if change.workloads_down:
        await mark_down(core, change.name, [])
    return result


async def _set(core: Core, change: NodeChange) -> NodeInfo:
    backoff = Backoff(core.world, first_s=0.01, most_s=0.5)
    for _ in range(ROUNDS_MAX):
        compares, writes = await _changed(core, change)
        if not writes:
            return await get_node(core, change.name)
        try:
            result = await core.store.txn(compares, writes)
        except OutcomeUnknown:
            if change.delta:
                raise  # trying again could count the increments twice
            continue
        if result.succeeded:
            core.fleet.committed(result.revision, writes)
            if change.bypass is not None:
                _tell_bypass(core, change.name, change.bypass)
            if change.resources:
                core.remapper.changed(change.name)
            return seen(core.fleet.node(change.name))
        await backoff.wait()
    raise Conflict(f"node {change.name} changed {ROUNDS_MAX} times while it was to be set; try again")


def _tell_bypass(core: Core, name: str, bypass: bool) -> None:
    if bypass:
        core.events.tell("node-down", node=name, detail="bypass is on: it is given no new workload, what runs goes on")
    else:
        core.events.tell(
            "node-up", node=name, detail="bypass is off: it is given new workloads, if its heartbeat is there"
        )


async def _changed(core: Core, change: NodeChange) -> tuple[list[Compare], list[Write]]:
    keys = core.keys
    node_key, resource_key, tls_key = (
        keys.node(change.name),
        keys.resource(change.name),
        keys.node_tls(change.name),
    )
    found = await core.store.get_many([node_key, resource_key, tls_key])
    if node_key not in found:
        raise NotFound(f"node {change.name!r} does not exist")
    before = Node.decode(found[node_key].value)
    after = msgspec.structs.replace(
        before,
        endpoint=change.endpoint or before.endpoint,
        labels=change.labels or before.labels,
        bypass=before.bypass if change.bypass is None else change.bypass,
        has_tls=before.has_tls or change.tls is not None,
    )
    compares = [unchanged(node_key, found[node_key].mod_revision)]
    writes: list[Write] = []
    if after != before:
        writes.append(_put(node_key, after.encode(), "node"))
    if change.tls is not None:
        tls_item = found.get(tls_key)
        compares.append(unchanged(tls_key, tls_item.mod_revision if tls_item else 0))
        old = NodeTLS.decode(tls_item.value) if tls_item else NodeTLS()
        tls = NodeTLS(ca=change.tls.ca or old.ca, cert=change.tls.cert or old.cert, key=change.tls.key or old.key)
        writes.append(_put(tls_key, tls.encode(), "certificates of the node"))
    bags = {name: bag for name, bag in change.resources.items() if name in core.kinds}
    if bags:
        item = found.get(resource_key)
        if item is None:
            raise NotFound(f"node {change.name!r} has no resource record")
        record = NodeResource.decode(item.value)
        compares.append(unchanged(resource_key, item.mod_revision))
        info = await _machine(core, change.name) if _first_asked(core, record, bags) else None
        resource = await _pure(core, lambda: _with_bags(core, record, bags, info, delta=change.delta))
        writes.append(_put(resource_key, resource.encode(), "resources of the node"))
    return compares, writes


def _first_asked(core: Core, record: NodeResource, bags: Mapping[str, Bag]) -> set[str]:
    """Programs that came after the node: they have to be told of it before anything else."""
    return {name for name in bags if core.kinds[name].blocking and not record.capacity.get(name)}


async def _machine(core: Core, name: str) -> EngineInfo:
    engine = await core.engine_for(name)
    return msgspec.structs.replace(await _info(core, name, engine), nodename=name)


def _with_bags(
    core: Core, record: NodeResource, bags: Mapping[str, Bag], info: EngineInfo | None, *, delta: bool
) -> NodeResource:
    """`info`: of the machine, where `_first_asked` wants it."""
    capacity: dict[str, Record] = dict(record.capacity)
    usage: dict[str, Record] = dict(record.usage)
    first = _first_asked(core, record, bags)
    for name, bag in bags.items():
        if name in first and info is not None:
            capacity[name], usage[name] = core.kinds[name].node_added(bag, info)
            continue
        capacity[name], usage[name] = core.kinds[name].node_changed(
            capacity.get(name, {}), usage.get(name, {}), bag, delta=delta
        )
    return NodeResource(capacity=capacity, usage=usage)
