"""What happened to workloads and nodes, as this core saw it: a bounded journal in memory, with readers.

    core.events.tell("created", name=one.name, id=created.id, node=one.nodename)

Telling costs a few microseconds and never waits. The oldest events make room
for new ones; what only other cores did is not here, except for statuses and
heartbeats, which every core sees. `listen` hands everything that is told by
the current task, and by those that it starts, to one more reader: the
progress of one deploy.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import ContextVar
from typing import Literal

import msgspec

from eru.core.engines import NodeEngines
from eru.core.fleet import Fleet
from eru.core.session import Session
from eru.core.settings import CoreSettings
from eru.core.statuses import Hub, NodeEvent, StatusEvent
from eru.engine.contract import Inspection
from eru.lib.log import trace_id
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import EruError
from eru.model.workloads import Workload

STATES_KEPT = 50_000  # workloads whose last reported state is remembered
ASKING_MAX = 64  # engines asked at a time why a workload ended; above that it is told without the reason
ASKING_S = 5.0
OUTPUT_SHOWN = 200  # bytes of a hook's output in its event

Kind = Literal[
    "planned", "refused", "pulling", "pulled", "created", "started", "hook", "recorded", "healthy", "unhealthy",
    "running", "down", "stopping", "stopped", "resized", "replaced", "removed", "failed", "recovered", "released",
    "node-up", "node-down",
]  # fmt: skip

_RUNNING, _HEALTHY = 1, 2


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `number` grows by one with each of this core; `trace` is the request that caused it, if one did."""

    number: int
    time_ns: int
    kind: str
    app: str = ""
    entrypoint: str = ""
    id: str = ""
    name: str = ""
    node: str = ""
    detail: str = ""
    error: str = ""
    trace: str = ""
    core: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all that is given must match. `workloads`: ids or names, any of them."""

    app: str = ""
    entrypoint: str = ""
    workloads: frozenset[str] = frozenset()
    node: str = ""
    since_ns: int = 0

    def matches(self, event: Happened, workloads: Collection[str]) -> bool:
        """Whether the event is wanted, when `workloads` are the ids and names known to belong together."""
        return (
            (not self.app or event.app == self.app)
            and (not self.entrypoint or event.entrypoint == self.entrypoint)
            and (not self.node or event.node == self.node)
            and event.time_ns >= self.since_ns
            and (not self.workloads or (event.id or event.name) in workloads or event.name in workloads)
        )


_listener: ContextVar[Callable[[Happened], None] | None] = ContextVar("events_listener", default=None)


def listen(hear: Callable[[Happened], None]) -> None:
    """From now on `hear` gets whatever this task tells, and the tasks that it starts."""
    _listener.set(hear)


class Events:
    """See the module."""

    def __init__(
        self,
        world: World,
        settings: CoreSettings,
        session: Session,
        fleet: Fleet,
        engines: NodeEngines,
        tasks: TaskOwner,
    ) -> None:
        self._clock = world.clock
        self._kept_max = settings.events_kept_max
        self._session = session
        self._fleet = fleet
        self._engines = engines
        self._tasks = tasks
        self._all: deque[Happened] = deque()
        self._of_app: dict[str, deque[Happened]] = {}
        self._of_node: dict[str, deque[Happened]] = {}
        self._of_workload: dict[str, list[Happened]] = {}  # by id and by name; short, so lists
        self._states: OrderedDict[str, int] = OrderedDict()
        self._up: set[str] = set()  # nodes known to have a heartbeat
        self._asking = 0
        self._number = 0
        self.hub: Hub[Happened] = Hub(settings.subscriber_queue_max)
        self.counts: Counter[str] = Counter()  # by kind, ever
        self.progress_dropped = 0  # events that a slow client of a deploy was not told

    def start(self) -> None:
        """Begin to watch statuses and heartbeats; the live view has been read."""
        self._up = {found.name for found in self._fleet.view.by_name.values() if found.heartbeat}
        self._fleet.statuses.listen(self._status)
        self._fleet.node_events.listen(self._heartbeat)

    def __len__(self) -> int:
        return len(self._all)

    def tell(
        self,
        kind: Kind,
        *,
        name: str = "",
        id: str = "",
        node: str = "",
        app: str = "",
        entrypoint: str = "",
        detail: str = "",
        error: EruError | str | None = None,
        at_ns: int = 0,
    ) -> None:
        """Note it. App and entrypoint follow from the workload's name; `at_ns`: when, if not just now."""
        if not app and name:
            app, entrypoint = _app_of(name)
        self._number += 1
        event = Happened(
            number=self._number,
            time_ns=at_ns or self._clock.now_ns(),
            kind=kind,
            app=app,
            entrypoint=entrypoint,
            id=id,
            name=name,
            node=node,
            detail=detail,
            error=str(error) if error else "",
            trace=trace_id(),
            core=self._session.id,
        )
        self._keep(event)
        self.counts[kind] += 1
        self.hub.publish(event)
        if (hear := _listener.get()) is not None:
            hear(event)

    def about(self, kind: Kind, workload: Workload, detail: str = "", error: EruError | None = None) -> None:
        """As `tell`, of a workload that is recorded."""
        self.tell(kind, name=workload.name, id=workload.id, node=workload.nodename, detail=detail, error=error)

    def find(self, wanted: Wanted) -> list[Happened]:
        """What is kept and wanted, oldest first."""
        workloads = self.same(wanted.workloads)
        return [event for event in self._candidates(wanted, workloads) if wanted.matches(event, workloads)]

    def same(self, workloads: Iterable[str]) -> set[str]:
        """The ids and names given, and for each the other one where it is known."""
        found = set(workloads)
        for one in list(found):
            for event in self._of_workload.get(one, ()):
                found.update((event.id, event.name))
        found.discard("")
        return found

    def name_of(self, id: str) -> str:
        """The name of the workload as far as it is known here."""
        return next((event.name for event in self._of_workload.get(id, ()) if event.name), "")

    def node_said(self, name: str, *, up: bool, detail: str) -> None:
        """A request says that a node is up or down: told with the reason, and the heartbeat's own change no more."""
        if up == (name in self._up):
            return
        self._up.add(name) if up else self._up.discard(name)
        self.tell("node-up" if up else "node-down", node=name, detail=detail)

    # Keeping.

    def _keep(self, event: Happened) -> None:
        self._all.append(event)
        for index, key in _places(event, self._of_app, self._of_node):
            _at(index, key).append(event)
        for key in filter(None, (event.id, event.name)):
            self._of_workload.setdefault(key, []).append(event)
        if len(self._all) > self._kept_max:
            self._forget(self._all.popleft())

    def _forget(self, event: Happened) -> None:
        """The oldest of all is the oldest wherever it is."""
        for index, key in _places(event, self._of_app, self._of_node):
            found = index[key]
            found.popleft()
            if not found:
                del index[key]
        for key in filter(None, (event.id, event.name)):
            events = self._of_workload[key]
            del events[0]
            if not events:
                del self._of_workload[key]

    def _candidates(self, wanted: Wanted, workloads: Collection[str]) -> Iterable[Happened]:
        if wanted.workloads:
            found = {event.number: event for one in workloads for event in self._of_workload.get(one, ())}
            return [found[number] for number in sorted(found)]
        if wanted.app:
            return self._of_app.get(wanted.app, ())
        if wanted.node:
            return self._of_node.get(wanted.node, ())
        return self._all

    # Statuses and heartbeats.

    def _heartbeat(self, event: NodeEvent) -> None:
        if event.alive == (event.nodename in self._up):
            return
        if event.alive:
            self._up.add(event.nodename)
            self.tell("node-up", node=event.nodename, detail="its heartbeat began")
            return
        self._up.discard(event.nodename)
        there = self._fleet.view.by_name.get(event.nodename)
        gone = there is None or there.node is None
        why = "it was removed" if gone else "its heartbeat ended: expired, or taken away"
        self.tell("node-down", node=event.nodename, detail=why)

    def _status(self, event: StatusEvent) -> None:
        status, id = event.status, event.id
        if status is None:
            self._states.pop(id, None)
            return
        now = (_RUNNING if status.running else 0) | (_HEALTHY if status.healthy else 0)
        before = self._states.get(id)
        if before == now:
            return
        self._states[id] = now
        if before is None and len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        before = 0 if before is None and now else before
        if before is None or (before ^ now) & _RUNNING:
            if now & _RUNNING:
                self._tell_status("running", event)
            else:
                self._went_down(event)
        if now & _RUNNING and ((before or 0) ^ now) & _HEALTHY:
            self._tell_status("healthy" if now & _HEALTHY else "unhealthy", event)

    def _went_down(self, event: StatusEvent) -> None:
        """Told with the engine's reason, which takes a moment to ask for; its time is that of the report."""
        found = self._fleet.view.by_name.get(event.nodename)
        if found is None or not found.available:
            self._tell_status("down", event, error="its node is down")
            return
        if self._asking >= ASKING_MAX:
            self._tell_status("down", event)
            return
        self._asking += 1
        self._tasks.start(f"why {event.id[:12]} ended", self._ask_why(event, self._clock.now_ns()))

    async def _ask_why(self, event: StatusEvent, at_ns: int) -> None:
        detail = error = ""
        try:
            engine = await self._engines.of(event.nodename)
            async with asyncio.timeout(ASKING_S):
                detail, error = ending(await engine.inspect(event.id))
        except (EruError, TimeoutError):
            pass
        finally:
            self._asking -= 1
        self._tell_status("down", event, detail=detail, error=error, at_ns=at_ns)

    def _tell_status(
        self, kind: Kind, event: StatusEvent, *, detail: str = "", error: str = "", at_ns: int = 0
    ) -> None:
        self.tell(
            kind,
            app=event.appname,
            entrypoint=event.entrypoint,
            id=event.id,
            name=self.name_of(event.id),
            node=event.nodename,
            detail=detail,
            error=error,
            at_ns=at_ns,
        )


Index = dict[str, deque[Happened]]


def _places(event: Happened, of_app: Index, of_node: Index) -> Iterator[tuple[Index, str]]:
    if event.app:
        yield of_app, event.app
    if event.node:
        yield of_node, event.node


def _at(index: Index, key: str) -> deque[Happened]:
    found = index.get(key)
    if found is None:
        found = index[key] = deque()
    return found


def ending(seen: Inspection) -> tuple[str, str]:
    """How a workload ended, as (detail, error); the error is "" when it ended well."""
    if seen.running:
        return "it runs again", ""
    if seen.oom_killed:
        return "", f"ended with exit code {seen.exit_code}: it ran out of memory"
    if seen.error:
        return "", f"ended with exit code {seen.exit_code}: {seen.error}"
    if not seen.exit_code:
        return "ended with exit code 0", ""
    signal = f" (signal {seen.exit_code - 128})" if 128 < seen.exit_code <= 128 + 64 else ""
    return "", f"ended with exit code {seen.exit_code}{signal}"


def said(output: bytes) -> str:
    """The end of what a hook printed, as one line."""
    return " ".join(output[-OUTPUT_SHOWN:].decode(errors="replace").split())


def _app_of(name: str) -> tuple[str, str]:
    parts = name.rsplit("_", 2)
    return (parts[0], parts[1]) if len(parts) == 3 else ("", "")
