"""Marks the workloads of dead nodes as down, and looks for orphans. One core does it; the others wait to take over.

Leadership only avoids double work: every write compares that the heartbeat is
still missing and that the status has not changed.
"""

from __future__ import annotations

import msgspec
import structlog

from eru.core.orphans import Orphans
from eru.core.parts import Parts
from eru.lib.tasks import task_owner
from eru.model.errors import EruError
from eru.model.workloads import WorkloadStatus
from eru.store.contract import PAGE_ITEMS, TXN_OPS_MAX, Compare, Put, Write, absent, present, unchanged
from eru.store.leader import Leadership

_log = structlog.get_logger(__name__)

ROLE = "watchdog"
_LOOK_EVERY_S = 1.0
_BATCH = TXN_OPS_MAX // 2


class Watchdog:
    """See the module."""

    def __init__(self, core: Parts) -> None:
        self._core = core
        self._dead_since: dict[str, float] = {}
        self._handled: set[str] = set()
        self.orphans = Orphans(core)

    async def run(self) -> None:
        """Lead or wait to lead, for ever. Runs as a background task."""
        core = self._core
        while True:
            try:
                identity = await core.session.identity()
                leadership = Leadership(core.store, core.keys, ROLE, identity.id, identity.lease, core.world)
                await leadership.take()
                await self._lead(leadership)
            except EruError as error:
                _log.info("node watchdog does not lead", error=str(error))
            await core.world.clock.sleep(core.world.jitter(_LOOK_EVERY_S))

    async def _lead(self, leadership: Leadership) -> None:
        """Until the lead is lost."""
        self._dead_since.clear()
        self._handled.clear()
        async with task_owner("watchdog") as owner:
            lost = owner.start("lead", leadership.wait_lost())
            owner.start("orphans", self.orphans.run())
            while not lost.done():
                try:
                    await self._look()
                except EruError as error:
                    _log.warning("node watchdog is interrupted", error=str(error))
                await self._core.world.clock.sleep(self._core.world.jitter(_LOOK_EVERY_S))

    async def _look(self) -> None:
        core = self._core
        now = core.world.clock.monotonic()
        dead = [
            found.name
            for found in core.fleet.view.by_name.values()
            if found.node is not None and not found.node.test and not found.heartbeat
        ]
        for name in self._dead_since.keys() - set(dead):
            del self._dead_since[name]
            self._handled.discard(name)
        for name in dead:
            since = self._dead_since.setdefault(name, now)
            if name not in self._handled and now - since >= core.settings.death_damping_s:
                count = await mark_down(core, name, [absent(core.keys.heartbeat(name))])
                self._handled.add(name)
                _log.info("node is dead, its workloads are marked down", node=name, workloads=count)


async def mark_down(core: Parts, nodename: str, guards: list[Compare]) -> int:
    """Mark every workload of the node as neither running nor healthy; how many changed.

    Networks and extension stay as reported. Stops quietly when a guard no
    longer holds; a status that somebody else writes meanwhile is left alone.
    """
    changed = 0
    after = ""
    while True:
        page = await core.store.range(core.keys.on_node(nodename), after=after, limit=PAGE_ITEMS)
        keys = []
        for item in page.items:
            app, entrypoint, _ = item.value.decode().split("/", 2)
            keys.append(core.keys.status(app, entrypoint, nodename, item.key.rpartition("/")[2]))
        changed += await _mark_statuses(core, keys, guards)
        if not page.more:
            return changed
        after = page.items[-1].key


async def _mark_statuses(core: Parts, keys: list[str], guards: list[Compare]) -> int:
    found = await core.store.get_many(keys)
    compares: list[Compare] = []
    writes: list[Write] = []
    for key, item in found.items():
        status = WorkloadStatus.decode(item.value)
        if status.running or status.healthy:
            down = msgspec.structs.replace(status, running=False, healthy=False)
            compares.append(unchanged(key, item.mod_revision))
            writes.append(Put(key, down.encode(), item.lease))
    changed = 0
    for key in (key for key in keys if key not in found):  # nobody ever reported it: its watchers are told, too
        id = key.rpartition("/")[2]
        first = [*guards, absent(key), present(core.keys.workload(id))]
        changed += (await core.store.txn(first, [Put(key, WorkloadStatus(id=id).encode())])).succeeded
    step = _BATCH - len(guards)
    for start in range(0, len(writes), step):
        part = slice(start, start + step)
        result = await core.store.txn([*guards, *compares[part]], writes[part])
        if result.succeeded:
            changed += len(writes[part])
            continue
        for compare, write in zip(compares[part], writes[part], strict=True):
            changed += (await core.store.txn([*guards, compare], [write])).succeeded
    return changed
