"""One core process, without gRPC: the parts that operations are made of, put together.

`ops/<verb>` take a `Core`. What they use:

    core.fleet.view ...              nodes, counts, up or down: the live view, no I/O
    core.fleet.node(name)            one node of it, or NotFound
    await core.fleet.fresh()         before saying that something does not exist or does not fit
    core.store / core.keys           everything that is not in the live view (workloads, statuses)
    await core.workloads(ids)        workload records; NotFound names the first missing one
    core.events.tell(kind, ...)      what happened, for whoever asks or follows
    core.ledger                      the only writer of usage, workloads, indexes and intents
    await core.engine_for(node)      the node's engine; TLS material is read when needed
    async with core.operation(verb)  an operation's id and registration; leftovers are swept after it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import structlog

from eru.core.commit import Committer
from eru.core.events import Events
from eru.core.fanout import Fanout
from eru.core.fleet import Fleet
from eru.core.images import Images
from eru.core.ledger import Ledger, Operation, StoredWorkload
from eru.core.planner import Planner
from eru.core.recovery import Recovery
from eru.core.remap import Remapper
from eru.core.reports import Reports
from eru.core.session import Session
from eru.core.settings import CoreSettings
from eru.core.statuses import Hub, StatusEvent
from eru.core.view import NodeView
from eru.core.watchdog import Watchdog
from eru.engine.contract import Engine
from eru.engine.pool import EnginePool
from eru.lib.log import trace_id
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import NotFound, Refused
from eru.model.nodes import Node, NodeTLS
from eru.model.workloads import Workload
from eru.resource.contract import Kind
from eru.store.contract import Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

_OP_ID_LENGTH = 16
_OP_SUFFIX_LENGTH = 8  # after the trace id, which a client may use twice
_RESTART_PAUSE_S = 1.0


class Core:
    """See the module. `start` before use, `drain` to finish what runs, `stop` at the end."""

    def __init__(
        self,
        world: World,
        store: Store,
        keys: Keys,
        engines: EnginePool,
        kinds: Mapping[str, Kind],
        settings: CoreSettings,
    ) -> None:
        self.world = world
        self.store = store
        self.keys = keys
        self.engines = engines
        self.kinds = dict(kinds)
        self.settings = settings
        self.tasks = TaskOwner("core", shared=True)  # lives as long as the core: watch, lease, sweeps
        self.background = TaskOwner("operations")  # what goes on after its call has ended
        self.active: set[str] = set()  # operation ids; their intents are nobody else's business
        self.draining = False
        self.deployed = 0  # instances made here, for metrics
        self.session = Session(world, store, keys, settings)
        self.fleet = Fleet(world, store, keys, settings, self.kinds)
        self.fleet.forget_engine = engines.forget
        self.fanout = Fanout(self)
        self.fleet.readers = self.fanout
        self.fleet.statuses.listen(self.fanout.hear)
        self.reports = Reports(self)
        self.fleet.statuses.listen(self.reports.hear)
        self.committer = Committer(store, keys, self.fleet, self.tasks, settings)
        self.ledger = Ledger(world, store, keys, self.kinds, self.fleet, self.committer)
        self.planner = Planner(self.fleet.view)
        self.events = Events(self)
        self.images = Images(self.background, settings.engine_slow_call_s, self.events)
        self.remapper = Remapper(self)
        self.recovery = Recovery(self)
        self.watchdog = Watchdog(self)
        self._started = asyncio.Event()

    @property
    def statuses(self) -> Hub[StatusEvent]:
        """The hub of workload status events."""
        return self.fleet.statuses

    async def start(self) -> None:
        """Register, read the cluster, begin to follow it. Raises StoreError."""
        await self.session.start()
        await self.fleet.start()
        self.events.start()
        for name, work in (
            ("session", self.session.keep),
            ("fleet", self.fleet.follow),
            ("recovery", self.recovery.run),
            ("watchdog", self.watchdog.run),
            ("statuses", self.fanout.run),
        ):
            self.tasks.start(name, self._for_ever(name, work))
        self._started.set()

    async def drain(self, timeout_s: float) -> bool:
        """End the streams, begin nothing new, wait for what runs; False when `timeout_s` passed first."""
        self.draining = True
        self.fanout.close()
        for hub in (self.fleet.statuses, self.fleet.node_events, self.fleet.core_events, self.events.hub):
            hub.close()
        return await self.background.wait_idle(timeout_s)

    async def stop(self) -> None:
        """Cancel what is left, unregister. The store and the engines belong to the caller."""
        await self.background.close()
        self.committer.close()
        self.reports.close()
        await self.tasks.close()
        await self.session.stop()

    @property
    def ready(self) -> bool:
        """Whether operations can succeed: registered, and not going away."""
        return self._started.is_set() and self.session.registered and not self.draining

    async def _for_ever(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """These must not end while the core lives, whatever happens to them."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a core that goes on without one of them is worse
                _log.error("restarted after a failure", task=name, error=str(error), exc_info=error)
            await self.world.clock.sleep(_RESTART_PAUSE_S)

    # For operations.

    @asynccontextmanager
    async def operation(self, verb: str) -> AsyncIterator[Operation]:
        """The frame of everything that writes intents.

        While the block runs, the operation's intents are its own. What it
        leaves behind, for whatever reason, is swept by recovery afterwards.
        """
        identity = await self.session.identity()
        trace = trace_id()
        id = f"{trace}-{self.world.hex(_OP_SUFFIX_LENGTH)}" if trace else self.world.hex(_OP_ID_LENGTH)
        operation = Operation(id=id, verb=verb, identity=identity)
        _log.debug("operation begins", verb=verb, op=id)
        self.active.add(operation.id)
        try:
            yield operation
        finally:
            self.active.discard(operation.id)
            if operation.left_behind:
                self.recovery.wake()

    async def engine_for(self, node: Node | NodeView | str) -> Engine:
        """The node's engine. One that does not answer is returned too: its calls say why.

        Raises NotFound for an unknown node.
        """
        if isinstance(node, str):
            node = await self.fleet.node_surely(node)
        record = self._record(node)
        known = self.engines.known(record.name, record.endpoint)
        if known is not None:
            return known
        return await self.engines.get(record.name, record.endpoint, await self._tls(record))

    async def workloads(self, ids: Iterable[str]) -> list[StoredWorkload]:
        """Records in the order of `ids`. Raises NotFound for the first id that does not exist."""
        wanted = list(ids)
        found = await self.store.get_many([self.keys.workload(id) for id in dict.fromkeys(wanted)])
        result = []
        for id in wanted:
            item = found.get(self.keys.workload(id))
            if item is None:
                raise NotFound(f"workload {id!r} does not exist")
            result.append(StoredWorkload(Workload.decode(item.value), item.mod_revision))
        return result

    def check_accepting(self) -> None:
        """Raise Refused while the core is going away."""
        if self.draining:
            raise Refused("this core is shutting down, ask another one")

    def _record(self, node: Node | NodeView | str) -> Node:
        if isinstance(node, Node):
            return node
        view = self.fleet.node(node) if isinstance(node, str) else node
        if view.node is None:
            raise NotFound(f"node {view.name!r} does not exist")
        return view.node

    async def _tls(self, node: Node) -> NodeTLS | None:
        if not node.has_tls:
            return None
        item = await self.store.get(self.keys.node_tls(node.name))
        return NodeTLS.decode(item.value) if item else None
