"""Reports of workloads that run already and are not recorded yet.

An instance is recorded after its start and its hooks; its agent sees the start
at once and may say only once that it runs. While something is being created at
the reported place, such a report is taken and written as soon as the record is
there. A report of what is recorded never comes through here, so that an old
one cannot undo a newer one; what this core had kept when it went away, the
agent tells again with its next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import EruError
from eru.model.intents import Intent, Verb
from eru.model.names import parse_workload_name
from eru.model.workloads import WorkloadStatus
from eru.store.contract import Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

KEPT_MAX = 10_000  # reports that wait for their record; beyond that they are refused, and agents report again
POLL_S = 0.25  # between looks for the records
_CREATING = (Verb.DEPLOY, Verb.LAMBDA, Verb.REPLACE)

Place = tuple[str, str, str]  # app, entrypoint, node


class EarlyReports:
    """See the module. `write` is where a report goes once its workload is recorded."""

    def __init__(
        self,
        world: World,
        store: Store,
        keys: Keys,
        tasks: TaskOwner,
        intents: Callable[[], Iterable[Intent]],
        write: Callable[[Sequence[WorkloadStatus]], Awaitable[object]],
    ) -> None:
        self._world = world
        self._store = store
        self._keys = keys
        self._tasks = tasks
        self._intents = intents
        self._write = write
        self._kept: dict[str, WorkloadStatus] = {}
        self._follower: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def places(self) -> set[Place]:
        """Where something is being created. Ask before looking for records: what was recorded meanwhile is found."""
        found = set()
        for intent in self._intents():
            if intent.verb in _CREATING:
                app, entrypoint, _ = parse_workload_name(intent.successor or intent.name)
                found.add((app, entrypoint, intent.nodename))
        return found

    def keep(self, status: WorkloadStatus, places: set[Place]) -> bool:
        """Whether the report of an unrecorded workload was taken."""
        if _place(status) not in places or (status.id not in self._kept and len(self._kept) >= KEPT_MAX):
            return False
        self._kept[status.id] = status
        if self._follower is None or self._follower.done():
            self._follower = self._tasks.start("early reports", self._follow())
        return True

    def forget(self, ids: Iterable[str]) -> None:
        """A newer report has come."""
        for id in ids:
            self._kept.pop(id, None)

    async def _follow(self) -> None:
        while self._kept:
            await self._world.clock.sleep(POLL_S)
            try:
                await self._look()
            except EruError as error:
                _log.info("early reports wait", error=str(error), count=len(self._kept))

    async def _look(self) -> None:
        places = self.places()
        looked = dict(self._kept)
        records = {self._keys.workload(id): id for id in looked}
        told = {self._keys.status(*_place(status), id): id for id, status in looked.items()}
        found = await self._store.get_many([*records, *told])
        newer = {told[key] for key in found.keys() & told.keys()}
        due = []
        for key, id in records.items():
            if self._kept.get(id) is not looked[id]:
                continue
            if key in found or _place(looked[id]) not in places:
                del self._kept[id]
            if key in found and id not in newer:
                due.append(looked[id])
        try:
            if due:
                await self._write(due)
        except EruError:
            for status in due:
                self._kept.setdefault(status.id, status)
            raise


def _place(status: WorkloadStatus) -> Place:
    return status.appname, status.entrypoint, status.nodename
