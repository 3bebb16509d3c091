"""The state behind fake engines: one `FakeNode` per endpoint, all in a `FakeCluster`.

Synchronous and given the time by its caller. Ends of workloads are not timers
but a heap that every look at the node settles first, so a million idle
workloads cost memory only (about 600 bytes each).
"""

from __future__ import annotations

import asyncio
import heapq
import math
import zlib
from collections import Counter, deque
from typing import Any

import msgspec

from eru.engine.contract import CreateSpec, EngineEvent, Figures, Inspection, Listed, Stream
from eru.engine.fake import script
from eru.model.errors import EngineMissing, EngineRefused
from eru.model.nodes import Resources

SHARED_SPECS_MAX = 1024  # specs remembered per node for sharing between workloads
EVENTS_KEPT_MAX = 256  # events per node, once somebody has listened
EVENT_QUEUE_MAX = 10_000  # events waiting for one listener; a slower one loses the oldest
LOG_LINES_KEPT_MAX = 10_000  # per workload
MEMORY_WHEN_UNLIMITED = 256 << 20  # bytes that a workload without a limit seems to work with

CREATED, RUNNING, PAUSED, EXITED = range(4)


class Extra:
    """What only few workloads have: output, files, networks added later, listeners."""

    __slots__ = ("files", "log", "networks", "resources", "waiters")

    def __init__(self) -> None:
        self.log: deque[tuple[int, Stream, bytes]] = deque(maxlen=LOG_LINES_KEPT_MAX)
        self.files: dict[str, tuple[bytes, int, int, int]] = {}
        self.networks: dict[str, str] = {}
        self.resources: Resources | None = None
        self.waiters: list[asyncio.Future[None]] = []


class FakeContainer:
    """One workload. `ends_at`: when it ends by itself (Unix seconds), infinity for a service."""

    __slots__ = (
        "created_at",
        "ends_at",
        "env",
        "exit_code",
        "extra",
        "finished_at",
        "id",
        "name",
        "params",
        "spec",
        "started_at",
        "state",
    )

    def __init__(self, id: str, name: str, spec: CreateSpec, env: tuple[str, ...], params: bytes, now: float) -> None:
        self.id = id
        self.name = name
        self.spec = spec  # shared; without name, env and params
        self.env = env
        self.params = params
        self.state = CREATED
        self.created_at = now
        self.started_at = 0.0
        self.finished_at = 0.0
        self.ends_at = math.inf
        self.exit_code = 0
        self.extra: Extra | None = None

    @property
    def running(self) -> bool:
        return self.state in (RUNNING, PAUSED)

    def more(self) -> Extra:
        """The extra part, made when first needed."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def resources(self) -> Resources:
        """The engine parameters in force."""
        found: Resources = msgspec.msgpack.decode(self.params)
        return found

    def wake(self) -> None:
        """Something about it changed: let those who wait look again."""
        if self.extra is not None:
            for waiter in self.extra.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self.extra.waiters.clear()


class FakeNode:
    """All that a fake machine has. `down`: nothing answers, set by tests and simulations."""

    def __init__(self, key: str, index: int) -> None:
        self.key = key
        self.index = index
        self.down = False
        self.containers: dict[str, FakeContainer] = {}
        self.names: dict[str, str] = {}
        self.images: dict[str, str] = {}  # reference -> id, of those that were pulled, built or tagged
        self.networks: dict[str, list[str]] = {"host": [], "none": [], "bridge": ["172.17.0.0/16"]}
        self.calls: Counter[str] = Counter()
        self.listeners: list[asyncio.Queue[EngineEvent]] = []
        self._history: deque[EngineEvent] | None = None
        self._ends: list[tuple[float, str]] = []
        self._shared: dict[bytes, Any] = {}

    @property
    def address(self) -> str:
        """Made up, and different for each node."""
        return f"10.{self.index >> 16 & 255}.{self.index >> 8 & 255}.{self.index & 255}"

    # Life of a workload.

    def create(self, id: str, spec: CreateSpec, now: float) -> None:
        """Raises EngineRefused when the name is taken."""
        if spec.name in self.names:
            raise EngineRefused(f"the name {spec.name!r} is already in use on fake node {self.key!r}")
        params = msgspec.msgpack.encode(spec.params)
        params = self._share(params, params)
        env = tuple(self._share(entry.encode(), entry) for entry in spec.env)
        common = msgspec.structs.replace(spec, name="", env=[], params={})
        common = self._share(msgspec.msgpack.encode(common), common)
        self.containers[id] = FakeContainer(id, spec.name, common, env, params, now)
        self.names[spec.name] = id
        self._tell(id, "create", now)

    def start(self, found: FakeContainer, now: float, exit_after_s: float, exit_code: int) -> None:
        if found.running:
            return
        found.state, found.started_at, found.exit_code, found.ends_at = RUNNING, now, 0, math.inf
        steps = script.parse(found.spec.commands, found.env, found.spec.dir, found.spec.user)
        self._run(found, steps, now)
        if exit_after_s:
            found.ends_at, found.exit_code = now + exit_after_s, exit_code
        if not math.isinf(found.ends_at):
            heapq.heappush(self._ends, (found.ends_at, found.id))
        self._tell(found.id, "start", now)
        found.wake()

    def end_at(self, found: FakeContainer, at: float, code: int) -> None:
        """It will stop running then, unless it does so earlier."""
        if found.running and at < found.ends_at:
            found.ends_at, found.exit_code = at, code
            heapq.heappush(self._ends, (at, found.id))

    def end(self, found: FakeContainer, now: float, code: int) -> None:
        """It stops running now."""
        if not found.running:
            return
        found.state, found.exit_code, found.ends_at, found.finished_at = EXITED, code, math.inf, now
        self._tell(found.id, "die", now)
        found.wake()

    def remove(self, found: FakeContainer, now: float) -> None:
        self.end(found, now, 137)
        self._tell(found.id, "destroy", now)
        del self.containers[found.id]
        self.names.pop(found.name, None)
        if not self.containers:
            self._shared.clear()
        found.wake()

    def settle(self, now: float) -> None:
        """Let every workload end whose time has come."""
        while self._ends and self._ends[0][0] <= now:
            at, id = heapq.heappop(self._ends)
            found = self.containers.get(id)
            if found is None or not found.running or found.ends_at != at:
                continue
            self.end(found, at, found.exit_code)
            if found.spec.restart.partition(":")[0] in ("always", "unless-stopped"):
                self.start(found, at, 0.0, 0)

    def next_end(self) -> float:
        """When the next workload ends by itself; infinity when none does."""
        return self._ends[0][0] if self._ends else math.inf

    # Looking.

    def get(self, id_or_name: str) -> FakeContainer:
        """By id, the beginning of an id (12 or more digits) or name. Raises EngineMissing."""
        found = self.containers.get(id_or_name)
        if found is None and (id := self.names.get(id_or_name.lstrip("/"))) is not None:
            found = self.containers.get(id)
        if found is None and len(id_or_name) >= 12:
            found = next((item for id, item in self.containers.items() if id.startswith(id_or_name)), None)
        if found is None:
            raise EngineMissing(f"no workload {id_or_name!r} on fake node {self.key!r}")
        return found

    def inspect(self, found: FakeContainer) -> Inspection:
        spec = found.spec
        return Inspection(
            id=found.id,
            name=found.name,
            running=found.running,
            user=spec.user,
            image=spec.image,
            env=list(found.env),
            labels=spec.labels,
            networks=self._addresses(found) if found.running else {},
            exit_code=found.exit_code if found.state == EXITED else 0,
            started_at=found.started_at,
            tty=spec.open_stdin and spec.tty,
            paused=found.state == PAUSED,
            finished_at=found.finished_at,
        )

    def find(self, labels: dict[str, str], running_only: bool) -> list[Listed]:
        wanted = list(labels.items())
        rows = []
        for found in self.containers.values():
            has = found.spec.labels
            if running_only and not found.running:
                continue
            if all(name in has and value in ("", has[name]) for name, value in wanted):
                rows.append(Listed(id=found.id, name=found.name, running=found.running, labels=has))
        return rows

    def _addresses(self, found: FakeContainer) -> dict[str, str]:
        networks = dict(found.spec.networks or {"host": ""})
        if found.extra is not None:
            networks.update(found.extra.networks)
        own = f"172.17.{int(found.id[:2], 16)}.{int(found.id[2:4], 16)}"
        return {
            name: address or (self.address if name == "host" else own)
            for name, address in networks.items()
            if name != "none"
        }

    def figures(self, found: FakeContainer, now: float) -> Figures:
        """Invented, but steady: a part of what it was given that follows from its id; a suspended one rests."""
        if not found.running:
            return Figures(time_ns=int(now * 1e9))
        granted: dict[str, Any] = {}
        for params in found.resources().values():
            granted |= params or {}
        share = (zlib.crc32(found.id.encode()) % 80 + 10) / 100
        cores = float(granted.get("cpu") or 1.0) * (share if found.state == RUNNING else 0.0)
        memory = int(granted.get("memory") or 0)
        return Figures(
            time_ns=int(now * 1e9),
            cpu_ns=int((now - found.started_at) * cores * 1e9),
            memory=int((memory or MEMORY_WHEN_UNLIMITED) * share),
            memory_limit=memory,
            processes=1,
        )

    # Output and events.

    def _run(self, found: FakeContainer, steps: list[script.Step], now: float) -> None:
        """Work out when it prints what, and when it ends."""
        at = now
        for step in steps:
            if isinstance(step, script.Say):
                found.more().log.append((int(at * 1e9), step.stream, step.data))
            elif isinstance(step, script.Cat) and step.path and found.extra and step.path in found.extra.files:
                found.extra.log.append((int(at * 1e9), Stream.STDOUT, found.extra.files[step.path][0]))
            elif isinstance(step, script.Sleep):
                at += step.seconds
            elif isinstance(step, script.Exit):
                found.ends_at, found.exit_code = max(at, now), step.code
            elif isinstance(step, script.Unknown) or (isinstance(step, script.Cat) and found.spec.open_stdin):
                return  # a service, or one that reads its input: runs until stopped
        if not math.isinf(at) and math.isinf(found.ends_at):
            found.ends_at = at

    def listen(self, since_ns: int) -> tuple[list[EngineEvent], asyncio.Queue[EngineEvent]]:
        """Kept events from `since_ns` on (none when 0), and a queue of those to come."""
        if self._history is None:
            self._history = deque(maxlen=EVENTS_KEPT_MAX)
        past = [event for event in self._history if event.time_ns >= since_ns] if since_ns else []
        queue: asyncio.Queue[EngineEvent] = asyncio.Queue(EVENT_QUEUE_MAX)
        self.listeners.append(queue)
        return past, queue

    def _tell(self, id: str, action: str, now: float) -> None:
        if self._history is None:
            return
        labels = self.containers[id].spec.labels
        event = EngineEvent(id=id, action=action, time_ns=int(now * 1e9), labels=labels)
        self._history.append(event)
        for queue in self.listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def _share(self, key: bytes, value: Any) -> Any:
        if len(self._shared) >= SHARED_SPECS_MAX:
            self._shared.clear()
        return self._shared.setdefault(key, value)


class FakeCluster:
    """All fake nodes of a process, by the host name of their endpoint."""

    def __init__(self) -> None:
        self.nodes: dict[str, FakeNode] = {}

    def node(self, key: str) -> FakeNode:
        """The node of that name; a new, empty one when it is first mentioned."""
        found = self.nodes.get(key)
        if found is None:
            found = self.nodes[key] = FakeNode(key, len(self.nodes) + 1)
        return found

    def containers(self) -> dict[str, tuple[str, FakeContainer]]:
        """Every workload of every node: id -> (node key, workload)."""
        return {id: (key, found) for key, node in self.nodes.items() for id, found in node.containers.items()}


DEFAULT_CLUSTER = FakeCluster()  # of engines that real processes open
