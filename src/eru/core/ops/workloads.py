"""Reading workloads: by id, by app, by node; always with their last reported status, always in batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec

from eru.core.app import Core
from eru.model.names import parse_workload_name
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Workload, WorkloadStatus
from eru.store.contract import range_all

BATCH = 500  # workloads read at a time by one listing


class Seen(msgspec.Struct, frozen=True):
    """A workload and what its node's agent said last, if it did."""

    workload: Workload
    status: WorkloadStatus | None


def status_key(core: Core, workload: Workload) -> str:
    """Where its status is kept."""
    app, entrypoint, _ = parse_workload_name(workload.name)
    return core.keys.status(app, entrypoint, workload.nodename, workload.id)


async def get_workloads(core: Core, ids: Iterable[str]) -> list[Seen]:
    """All of them, in order, or NotFound for the first that does not exist."""
    return await _with_status(core, [stored.workload for stored in await core.workloads(ids)])


async def list_workloads(core: Core, wanted: WorkloadFilter) -> AsyncIterator[Seen]:
    """In the order of entrypoint, node and id. `limit` counts what is delivered."""
    if any("/" in part for part in (wanted.appname, wanted.entrypoint, wanted.nodename)):
        return  # no such name can exist
    prefix = core.keys.of_app(wanted.appname, wanted.entrypoint, wanted.nodename)
    after = ""
    revision = 0
    left = wanted.limit or -1
    while left:
        page = await core.store.range(prefix, after=after, limit=BATCH, revision=revision, keys_only=True)
        revision = page.revision
        ids = [item.key.rpartition("/")[2] for item in page.items]
        for seen in await _existing(core, ids):
            if left and carries(seen.workload, wanted.labels):
                left -= 1
                yield seen
        if not page.more:
            return
        after = page.items[-1].key


async def node_workloads(core: Core, nodename: str, labels: Mapping[str, str]) -> list[Seen]:
    """All workloads of a node, by id; none for an unknown node."""
    if "/" in nodename or not nodename:
        return []
    items, _ = await range_all(core.store, core.keys.on_node(nodename), keys_only=True)
    found = await _existing(core, [item.key.rpartition("/")[2] for item in items])
    return [seen for seen in found if carries(seen.workload, labels)]


def carries(workload: Workload, labels: Mapping[str, str]) -> bool:
    """Whether it has all of the labels."""
    return all(workload.labels.get(key) == value for key, value in labels.items())


async def _existing(core: Core, ids: list[str]) -> list[Seen]:
    """Those that still exist, in order."""
    found = await core.store.get_many([core.keys.workload(id) for id in ids])
    records = [found[key].value for id in ids if (key := core.keys.workload(id)) in found]
    return await _with_status(core, [Workload.decode(record) for record in records])


async def _with_status(core: Core, workloads: list[Workload]) -> list[Seen]:
    keys = [status_key(core, workload) for workload in workloads]
    found = await core.store.get_many(list(dict.fromkeys(keys)))
    return [
        Seen(workload, WorkloadStatus.decode(found[key].value) if key in found else None)
        for workload, key in zip(workloads, keys, strict=True)
    ]
