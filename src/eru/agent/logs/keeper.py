"""One pump per workload that runs, or that stopped with output nobody has read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog

from eru.agent.logs.cursor import Cursor
from eru.agent.logs.forwards import Forwards
from eru.agent.logs.hub import Hub
from eru.agent.logs.outlet import PumpCounts
from eru.agent.logs.pump import Pump
from eru.agent.notices import Notices
from eru.agent.runtime import LogSource
from eru.agent.workloads import Workload
from eru.lib.tasks import TaskOwner
from eru.lib.world import World

OWN_ENTRYPOINT = "agent"

_log = structlog.get_logger(__name__)


class LogKeeper:
    """Starts and ends pumps as workloads come and go."""

    def __init__(
        self,
        world: World,
        source: LogSource,
        forwards: Forwards,
        hub: Hub,
        notices: Notices,
        state: Path,
        line_max: int,
        in_container: bool,
        before_start: Callable[[str], Awaitable[Workload | None]] | None = None,
    ) -> None:
        self._world = world
        self._source = source
        self._forwards = forwards
        self._hub = hub
        self._notices = notices
        self._cursors = state / "cursors"
        self._cursors.mkdir(exist_ok=True, mode=0o700)
        self._line_max = line_max
        self._in_container = in_container
        self._before_start = before_start
        self._pumps: dict[str, tuple[Pump, asyncio.Task[None]]] = {}
        self._prepared: dict[str, Pump] = {}
        self._owner = TaskOwner("logs")
        self.counts = PumpCounts()

    def __len__(self) -> int:
        return len(self._pumps)

    def created(self, workload: Workload) -> None:
        """Attach before the start, so that the first line is live already."""
        if workload.id not in self._pumps:
            pump = self._pump(workload)
            self._prepared[workload.id] = pump
            self._launch(workload.id, pump, True, None)

    def starting(self, id: str, event_ns: int, attached: bool) -> None:
        """The engine says that it has begun; what is needed beyond that comes with `started`."""
        if (prepared := self._prepared.get(id)) is not None:
            prepared.starting(event_ns, attached)

    def started(self, workload: Workload, fresh: bool) -> None:
        """Carry the output of this run, after what is left of the run before."""
        prepared = self._prepared.pop(workload.id, None)
        if prepared is not None and workload.id in self._pumps:
            prepared.readdressed(workload)
            prepared.began()
            return
        before = self._pumps.get(workload.id)
        if before is not None:
            before[0].stopped()
        pump = self._pump(workload)
        pump.began()
        self._launch(workload.id, pump, fresh, before)

    def stopped(self, workload: Workload, missed_run: bool) -> None:
        """No more output; `missed_run`: a whole run was over before anybody looked."""
        if (prepared := self._prepared.pop(workload.id, None)) is not None:
            prepared.readdressed(workload)
        entry = self._pumps.get(workload.id)
        if entry is not None:
            entry[0].stopped()
        elif missed_run or (self._cursors / workload.id).exists():
            pump = self._pump(workload)
            pump.stopped()
            self._launch(workload.id, pump, missed_run, None)

    def changed(self, workload: Workload) -> None:
        """Addresses are part of the records."""
        if (entry := self._pumps.get(workload.id)) is not None:
            entry[0].readdressed(workload)

    def gone(self, workload: Workload) -> None:
        """The engine has forgotten it: hand on what is there, then forget the cursor."""
        self._prepared.pop(workload.id, None)
        entry = self._pumps.get(workload.id)
        if entry is not None:
            pump, task = entry
            pump.stopped()
            task.add_done_callback(lambda _: pump.forget_cursor())
        else:
            (self._cursors / workload.id).unlink(missing_ok=True)

    def forget_unknown(self, known: set[str]) -> None:
        """Remove cursors of workloads that went while no agent ran."""
        for entry in self._cursors.iterdir():
            if entry.name not in known and entry.name not in self._pumps:
                entry.unlink(missing_ok=True)

    async def close(self) -> None:
        """Stop reading. What is not handed on yet is read again by the next agent process."""
        await self._owner.close()

    def _pump(self, workload: Workload) -> Pump:
        return Pump(
            self._world,
            workload,
            self._source,
            self._forwards.route(workload.id),
            self._hub,
            Cursor(self._cursors / workload.id),
            self._notices,
            self.counts,
            self._line_max,
            copy_stdout=not (self._in_container and workload.entrypoint == OWN_ENTRYPOINT),
            look=partial(self._before_start, workload.id) if self._before_start is not None else None,
        )

    def _launch(self, id: str, pump: Pump, fresh: bool, before: tuple[Pump, asyncio.Task[None]] | None) -> None:
        task = self._owner.start(id[:12], self._run(pump, fresh, before))
        self._pumps[id] = (pump, task)
        task.add_done_callback(lambda _: self._ended(id, pump))

    async def _run(self, pump: Pump, fresh: bool, before: tuple[Pump, asyncio.Task[None]] | None) -> None:
        if before is not None:
            await asyncio.wait({before[1]})
            pump.continue_from(before[0])
        await pump.run(fresh)

    def _ended(self, id: str, pump: Pump) -> None:
        if (entry := self._pumps.get(id)) is not None and entry[0] is pump:
            del self._pumps[id]
