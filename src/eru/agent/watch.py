"""Keeps the agent's view of workloads equal to the engine's.

Full listing at start, after every gap in the event stream and periodically;
events in between. The listing is the truth, events only make it fast: what an
event should have told is found by the next listing as well.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
import structlog

from eru.agent.notices import Notices
from eru.agent.runtime import Runtime
from eru.agent.workloads import MineFilter, Workload, workload_of
from eru.engine.contract import EngineEvent, Inspection
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner, map_bounded
from eru.lib.world import World
from eru.model.errors import EngineError, EngineMissing, EngineUnreachable, InvalidInput
from eru.model.workloads import LABEL_NODENAME

INSPECTS_MAX = 8  # at the same time, for a full listing
LOOKS_MAX = 32  # at the same time, after events
LOOK_AGAIN_MOST_S = 10.0
EVENTS_OVERLAP_NS = 1_000_000_000
ENGINE_RETRY_MOST_S = 2.0
EVENTS_WAITING_MAX = 1000  # read ahead of what is handled
FIRST_EVENT_S = 1.0  # for engines that do not confirm a subscription

_log = structlog.get_logger(__name__)


class Follower(Protocol):
    """Whoever acts on what happens to workloads; called on the event loop, must not wait."""

    def created(self, workload: Workload) -> None:
        """It exists and was never started."""

    def starting(self, id: str, event_ns: int, attached: bool) -> None:
        """A run began at `event_ns` by the engine's clock; `started` follows once it was looked at.

        `attached`: the engine had let somebody listen to it before.
        """

    def started(self, workload: Workload, fresh: bool) -> None:
        """A run of a workload was seen. `fresh`: it began while the agent was looking."""

    def changed(self, workload: Workload) -> None:
        """Addresses or health are different now."""

    def stopped(self, workload: Workload, missed_run: bool) -> None:
        """`missed_run`: a run the agent never saw began and ended since it last looked."""

    def gone(self, workload: Workload) -> None: ...


class Watcher:
    """`period_s`: between full listings. `node_ip` is filled in when core has told it."""

    def __init__(
        self,
        world: World,
        runtime: Runtime,
        notices: Notices,
        mine: MineFilter,
        follower: Follower,
        *,
        interval_s: float,
        timeout_s: float,
        period_s: float,
        call_timeout_s: float,
    ) -> None:
        self._world = world
        self._runtime = runtime
        self._notices = notices
        self._mine = mine
        self._follower = follower
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._period_s = period_s
        self._call_timeout_s = call_timeout_s
        self._owner = TaskOwner("watch")
        self._foreign: dict[str, str] = {}  # id -> why it is not ours
        self._announced: dict[str, Workload] = {}
        self._attached: set[str] = set()  # not running, and somebody listens already
        self._unanswered: set[str] = set()  # looked at again until the engine answers
        self._died: dict[str, float] = {}  # id -> Unix seconds of its last end
        self._looks = asyncio.Semaphore(LOOKS_MAX)
        self._lists = asyncio.Lock()
        self.node_ip = "127.0.0.1"
        self.workloads: dict[str, Workload] = {}
        self._fresh_from = 0.0  # Unix seconds: runs that began later were not seen by anybody
        self.last_seen: float = 0.0  # Unix seconds up to which no event is missing
        self.gaps_total = 0
        self.ready = asyncio.Event()

    async def run(self, last_seen: float = 0.0) -> None:
        """Until cancelled. `last_seen`: `last_seen` of the agent process before this one."""
        self.last_seen = last_seen
        backoff = Backoff(self._world, first_s=0.1, most_s=ENGINE_RETRY_MOST_S)
        self._owner.start("periodic", self._periodic())
        try:
            while True:
                try:
                    await self._follow(backoff)
                except EngineError as error:
                    self.gaps_total += 1
                    self._notices.trouble("engine", "engine does not answer, trying on", error=str(error))
                await backoff.wait()
        finally:
            await self._owner.close()

    def set_node_ip(self, node_ip: str) -> None:
        """Core told this node's address: workloads on the host network are reached and reported with it."""
        if node_ip == self.node_ip:
            return
        self.node_ip = node_ip
        for workload in self.workloads.values():
            if "host" in workload.networks:
                workload.networks = workload.networks | {"host": node_ip}
                self._follower.changed(workload)

    async def refresh(self, id: str) -> None:
        """Look at one workload again; if the engine does not answer for it, also later, until it does."""
        if not await self._looked(id) and id not in self._unanswered:
            self._unanswered.add(id)
            self._owner.start(f"again {id[:12]}", self._look_again(id))

    async def _look_again(self, id: str) -> None:
        backoff = Backoff(self._world, first_s=0.5, most_s=LOOK_AGAIN_MOST_S)
        try:
            while id in self._unanswered:
                await backoff.wait()
                async with self._looks:
                    if await self._looked(id):
                        return
        finally:
            self._unanswered.discard(id)

    async def _looked(self, id: str) -> bool:
        """Whether the engine had an answer."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                found = await self._runtime.inspect(id)
        except EngineMissing:
            self._drop(id)
        except (EngineError, TimeoutError) as error:
            why = str(error) or f"no answer within {self._call_timeout_s:g}s"
            self._notices.trouble("inspect", "workload cannot be inspected, trying on", workload=id[:12], error=why)
            return False
        else:
            self._notices.over("inspect", "workloads can be inspected again")
            self._merge(found)
        return True

    async def before_start(self, id: str) -> Workload | None:
        """The workload, if it is ours and was never started until now."""
        try:
            async with asyncio.timeout(self._call_timeout_s):
                found = await self._runtime.inspect(id)
            if found.running or found.started_at:
                self._merge(found)
                return None
            workload = workload_of(found, self.node_ip, self._interval_s, self._timeout_s)
        except (EngineError, InvalidInput, TimeoutError):
            return None  # said when it starts
        return workload if self._mine.takes(workload.env, workload.labels) else None

    async def _follow(self, backoff: Backoff) -> None:
        """One life of the event stream, with a full listing as soon as it stands. Raises EngineError."""
        since = max(self._world.clock.now_ns() - EVENTS_OVERLAP_NS, 0)
        self._fresh_from = self.last_seen or self._world.clock.now()
        arrived: asyncio.Queue[EngineEvent | EngineError] = asyncio.Queue(EVENTS_WAITING_MAX)
        reader = self._owner.start("events", self._read_events(since, arrived))
        lister: asyncio.Task[None] | None = None
        try:
            try:
                async with asyncio.timeout(FIRST_EVENT_S):
                    first = await arrived.get()
            except TimeoutError:
                first = EngineEvent(id="", action="subscribed", time_ns=0)
            if isinstance(first, EngineError):
                raise first
            lister = self._owner.start("list", self._list_after_gap())
            backoff.reset()
            event: EngineEvent | EngineError = first
            while not isinstance(event, EngineError):
                if event.id:
                    self._take(event)
                event = await arrived.get()
            raise event
        finally:
            reader.cancel()
            if lister is not None:
                lister.cancel()

    async def _list_after_gap(self) -> None:
        """The full listing that makes up for what the event stream did not tell, until it works."""
        backoff = Backoff(self._world, first_s=0.1, most_s=ENGINE_RETRY_MOST_S)
        while True:
            try:
                await self.reconcile(thorough=True)
            except EngineError as error:
                self._notices.trouble("engine", "engine does not answer, trying on", error=str(error))
                await backoff.wait()
            else:
                self._notices.over("engine", "engine answers again")
                self.ready.set()
                return

    async def _read_events(self, since_ns: int, arrived: asyncio.Queue[EngineEvent | EngineError]) -> None:
        try:
            async with aclosing(_as_generator(self._runtime.events(self._mine.labels(), since_ns))) as events:
                async for event in events:
                    await arrived.put(event)
            await arrived.put(EngineUnreachable("the engine ended its event stream"))
        except EngineError as error:
            await arrived.put(error)

    async def _periodic(self) -> None:
        while True:
            await self._world.clock.sleep(self._world.jitter(self._period_s, 0.1))
            if not self.ready.is_set():
                continue
            try:
                await self.reconcile(thorough=False)
            except EngineError as error:
                self._notices.trouble("engine", "engine does not answer, trying on", error=str(error))

    async def reconcile(self, thorough: bool) -> None:
        """Compare with a full listing; `thorough` also inspects every running workload. Raises EngineError."""
        async with self._lists:
            asked_at = self._world.clock.now()
            before = {*self.workloads, *self._announced}
            listed = await self._runtime.find(self._mine.labels())
            present = {row.id for row in listed}
            for id in before - present:
                self._drop(id)
            self._foreign = {id: why for id, why in self._foreign.items() if id in present}
            self._died = {id: at for id, at in self._died.items() if id in present or id not in before}
            doubtful = []
            for row in listed:
                known = self.workloads.get(row.id)
                if row.id in self._foreign and not (thorough and row.running):
                    continue
                if known is None or known.running != row.running or (thorough and row.running):
                    doubtful.append(row.id)
            await map_bounded(doubtful, self.refresh, INSPECTS_MAX)
            self.last_seen = max(self.last_seen, asked_at)

    def _take(self, event: EngineEvent) -> None:
        known = self.workloads.get(event.id)
        if event.action == "die":
            self._died[event.id] = event.time_ns / 1e9
            if known is not None and known.running:
                if event.time_ns / 1e9 >= known.started_at:
                    self._stop(known)
                else:  # the end of a run before, or a clock that was set back
                    self._owner.start(f"look {event.id[:12]}", self._look(event.id))
        elif event.action == "destroy":
            self._drop(event.id)
        elif event.action == "create":
            self._announce(event)
        elif event.action == "attach":
            if known is None or not known.running:
                self._attached.add(event.id)
        elif event.action == "start":
            self._follower.starting(event.id, event.time_ns, event.id in self._attached)
            self._attached.discard(event.id)
            self._died.pop(event.id, None)  # whatever the clock says, it ended before
            seen_s = known.started_at if known is not None and known.running else 0.0
            if event.time_ns / 1e9 - seen_s > EVENTS_OVERLAP_NS / 1e9:  # else an inspection was faster than the event
                self._owner.start(f"look {event.id[:12]}", self._look(event.id))
        elif event.action == "network" and known is not None:
            # an engine may hold back the answer for one workload; the events of others must not wait for it
            self._owner.start(f"look {event.id[:12]}", self._look(event.id))
        if event.time_ns:
            self.last_seen = max(self.last_seen, event.time_ns / 1e9)

    async def _look(self, id: str) -> None:
        async with self._looks:
            await self.refresh(id)

    def _announce(self, event: EngineEvent) -> None:
        """A workload was made and not started yet: what the event tells is enough to listen to it."""
        if not self._mine.takes({"ERU_NODE_NAME": event.labels.get(LABEL_NODENAME, "")}, event.labels):
            return
        made = Inspection(id=event.id, name=event.labels.get("name", ""), running=False, labels=event.labels)
        try:
            workload = workload_of(made, self.node_ip, self._interval_s, self._timeout_s)
        except InvalidInput:
            return  # said when it starts
        self._announced[event.id] = workload
        self._follower.created(workload)

    def _merge(self, found: Inspection) -> None:
        if found.running and self._died.get(found.id, 0.0) > found.started_at:
            found = msgspec.structs.replace(found, running=False, networks={})  # the answer is older than its end
        announced = self._announced.pop(found.id, None)
        if not self._take_over(found) and announced is not None:
            self._follower.gone(announced)

    def _take_over(self, found: Inspection) -> bool:
        """Make the view agree with one inspection; whether it is a workload of ours."""
        known = self.workloads.get(found.id)
        try:
            workload = workload_of(found, self.node_ip, self._interval_s, self._timeout_s)
        except InvalidInput as error:
            self._say_foreign(found.id, str(error))
            return False
        if not self._mine.takes(workload.env, workload.labels):
            self._foreign[found.id] = "belongs to another node"
            return False
        if workload.health.complaint and known is None:
            _log.warning("health label ignored", workload=found.name, error=workload.health.complaint)
        if known is None or (workload.running and _other_run(known, workload)):
            if known is not None and known.running:
                self._stop(known)
            self.workloads[found.id] = workload
            if workload.running:
                self._follower.started(workload, fresh=self._is_fresh(workload))
            elif workload.started_at:
                self._follower.stopped(workload, missed_run=self._is_fresh(workload))
        elif known.running and not workload.running:
            self._stop(known)
        elif not workload.running and known.started_at != workload.started_at:
            known.started_at = workload.started_at
            self._follower.stopped(known, missed_run=True)
        elif known.networks != workload.networks and workload.running:
            known.networks = workload.networks
            self._follower.changed(known)
        return True

    def _is_fresh(self, workload: Workload) -> bool:
        """Whether this run began after the moment up to which the agent knows everything."""
        return self._fresh_from <= workload.started_at + EVENTS_OVERLAP_NS / 1e9

    def _stop(self, workload: Workload) -> None:
        workload.running = workload.healthy = False
        workload.networks = {}
        self._follower.stopped(workload, missed_run=False)

    def _drop(self, id: str) -> None:
        self._foreign.pop(id, None)
        self._died.pop(id, None)
        self._unanswered.discard(id)
        announced = self._announced.pop(id, None)
        self._attached.discard(id)
        workload = self.workloads.pop(id, announced)
        if workload is not None:
            if workload.running:
                workload.running = workload.healthy = False
            self._follower.gone(workload)

    def _say_foreign(self, id: str, why: str) -> None:
        if id not in self._foreign:
            _log.warning("container with label ERU is no workload", container=id[:12], error=why)
        self._foreign[id] = why


def _other_run(known: Workload, seen: Workload) -> bool:
    return not known.running or known.started_at != seen.started_at


async def _as_generator(events: Any) -> Any:
    """`aclosing` needs a generator; engines only promise an iterator."""
    async for event in events:
        yield event
