"""Keeps workloads without bound cores on the cores that are free, after grants on their node changed.

Runs in the background, once per node at a time: requests that come while one
runs are folded into the next. Failures are only logged; the next change on the
node tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from eru.core.engines import NodeEngines
from eru.core.fleet import Fleet
from eru.core.settings import CoreSettings
from eru.lib.tasks import TaskOwner
from eru.model.errors import EngineError, EngineMissing, EruError
from eru.model.nodes import Resources
from eru.model.workloads import Workload
from eru.resource.contract import Kind
from eru.store.contract import PAGE_ITEMS, Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

_NODES_PARALLEL_MAX = 32
_UPDATES_PARALLEL_MAX = 8  # engine updates at a time on one node


class Remapper:
    """See the module."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        settings: CoreSettings,
        kinds: Mapping[str, Kind],
        fleet: Fleet,
        engines: NodeEngines,
        tasks: TaskOwner,
    ) -> None:
        self._store = store
        self._keys = keys
        self._settings = settings
        self._kinds = kinds
        self._fleet = fleet
        self._engines = engines
        self._tasks = tasks
        self._closed = False
        self._gate = asyncio.Semaphore(_NODES_PARALLEL_MAX)
        self._wanted: dict[str, set[str] | None] = {}  # node -> ids to look at; None: all
        self._running: set[str] = set()
        self.updated = 0  # workloads whose cores were changed, for metrics
        self.failed = 0

    def created(self, nodename: str, workloads: Mapping[str, Resources]) -> None:
        """New workloads (id -> grant): the free cores may have become fewer, and do they keep to them?"""
        everybody = any(self._bound(nodename, grant) for grant in workloads.values())
        self._request(nodename, None if everybody else set(workloads))

    def removed(self, nodename: str, grants: Iterable[Resources]) -> None:
        """Grants were given back: the free cores may have become more."""
        if any(self._bound(nodename, grant) for grant in grants):
            self._request(nodename, None)

    def changed(self, nodename: str) -> None:
        """Something about the node's resources changed: look at all its workloads."""
        self._request(nodename, None)

    def close(self) -> None:
        """Begin with no further node."""
        self._closed = True

    def _request(self, nodename: str, ids: set[str] | None) -> None:
        if not self._settings.use_remap or (ids is not None and not ids):
            return
        if ids is not None and not self._narrow(nodename):
            return
        if nodename in self._wanted:
            before = self._wanted[nodename]
            self._wanted[nodename] = None if ids is None or before is None else before | ids
        else:
            self._wanted[nodename] = ids
        if nodename not in self._running and not self._closed:
            self._running.add(nodename)
            self._tasks.start(f"remap {nodename}", self._run(nodename))

    async def _run(self, nodename: str) -> None:
        try:
            while nodename in self._wanted:
                async with self._gate, asyncio.timeout(self._settings.operation_s):
                    await self._remap(nodename, self._wanted.pop(nodename))
        except (EruError, TimeoutError) as error:
            _log.warning("share pool not remapped", node=nodename, error=str(error))
        finally:
            self._running.discard(nodename)
            self._wanted.pop(nodename, None)

    async def _remap(self, nodename: str, ids: set[str] | None) -> None:
        workloads = await self._workloads(nodename, ids)
        found = self._fleet.node(nodename)
        updates: dict[str, Resources] = {}
        for name, kind in self._kinds.items():
            grants = {item.id: item.grant[name] for item in workloads if name in item.grant}
            told = (found.capacity.get(name, {}), found.usage.get(name, {}), grants)
            parts = await asyncio.to_thread(kind.remap, *told) if kind.blocking else kind.remap(*told)
            for id, params in parts.items():
                updates.setdefault(id, {})[name] = params
        if not updates:
            return
        engine = await self._engines.of(found)
        gate = asyncio.Semaphore(_UPDATES_PARALLEL_MAX)

        async def update(id: str, params: Resources) -> None:
            async with gate:
                try:
                    async with asyncio.timeout(self._settings.engine_call_s):
                        await engine.update(id, params)
                    self.updated += 1
                except EngineMissing:
                    return
                except (EngineError, TimeoutError) as error:
                    self.failed += 1
                    _log.warning("workload not remapped", workload=id, node=nodename, error=str(error))

        async with asyncio.TaskGroup() as group:
            for id, params in updates.items():
                group.create_task(update(id, params))

    async def _workloads(self, nodename: str, ids: set[str] | None) -> list[Workload]:
        if ids is None:
            ids = set()
            after = ""
            while True:
                page = await self._store.range(
                    self._keys.on_node(nodename), after=after, limit=PAGE_ITEMS, keys_only=True
                )
                ids.update(item.key.rpartition("/")[2] for item in page.items)
                if not page.more:
                    break
                after = page.items[-1].key
        found = await self._store.get_many([self._keys.workload(id) for id in sorted(ids)])
        return [Workload.decode(item.value) for item in found.values()]

    def _bound(self, nodename: str, grant: Resources) -> bool:
        """Whether the grant holds something for itself that others then have to keep off."""
        found = self._fleet.view.by_name.get(nodename)
        if found is None:
            return False
        for name in self._kinds:
            part = grant.get(name)
            if part and part.get("cpu_map") and not self._follows(nodename, name, part):
                return True
        return False

    def _follows(self, nodename: str, kind: str, part: dict[str, object]) -> bool:
        found = self._fleet.view.by_name[nodename]
        return bool(self._kinds[kind].remap(found.capacity.get(kind, {}), found.usage.get(kind, {}), {"it": part}))

    def _narrow(self, nodename: str) -> bool:
        """Whether any core of the node is given to somebody alone, so that newcomers have to keep off it."""
        found = self._fleet.view.by_name.get(nodename)
        if found is None:
            return False
        return any(
            any(share for share in (part.get("cpu_map") or {}).values() if share) for part in found.usage.values()
        )
