"""Pods: named sets of nodes.

A node is added in a transaction that also rewrites its pod's record, so that
removing a pod, which compares the record's revision, loses against it.
"""

from __future__ import annotations

from eru.core.app import Core
from eru.model.errors import AlreadyExists, Conflict, NotFound, OutcomeUnknown, Refused
from eru.model.names import check_name
from eru.model.nodes import Pod
from eru.store.contract import Delete, Put, absent, range_all, unchanged

ROUNDS_MAX = 8  # tries against concurrent changes
DESC_CHARS_MAX = 4096


async def add_pod(core: Core, name: str, desc: str) -> Pod:
    """A new pod. Raises InvalidInput, AlreadyExists."""
    pod = Pod(name=check_name("pod name", name), desc=desc[:DESC_CHARS_MAX])
    key = core.keys.pod(name)
    put = Put(key, pod.encode())
    result = await core.store.txn([absent(key)], [put])
    if not result.succeeded:
        raise AlreadyExists(f"pod {name!r} already exists (key exists)")
    core.fleet.committed(result.revision, [put])
    return pod


async def get_pod(core: Core, name: str) -> Pod:
    """Raises NotFound."""
    item = await core.store.get(core.keys.pod(check_name("pod name", name)))
    if item is None:
        raise NotFound(f"pod {name!r} does not exist")
    return Pod.decode(item.value)


async def list_pods(core: Core) -> list[Pod]:
    """All pods by name."""
    items, _ = await range_all(core.store, core.keys.pods)
    return [Pod.decode(item.value) for item in items]


async def remove_pod(core: Core, name: str) -> None:
    """Remove a pod without nodes. Raises NotFound, Refused."""
    key = core.keys.pod(check_name("pod name", name))
    for _ in range(ROUNDS_MAX):
        item = await core.store.get(key)
        if item is None:
            raise NotFound(f"podname: {name}: pod not found")
        await core.fleet.fresh()
        count = sum(1 for _ in core.fleet.view.nodes(name))
        if count:
            raise Refused(f"pod {name} still has {count} nodes, remove them first: pod has nodes")
        try:
            result = await core.store.txn([unchanged(key, item.mod_revision)], [Delete(key)])
        except OutcomeUnknown:
            if await core.store.get(key) is None:
                return
            raise
        if result.succeeded:
            core.fleet.committed(result.revision, [Delete(key)])
            return
    raise Conflict(f"pod {name} changed {ROUNDS_MAX} times while it was to be removed; try again")
