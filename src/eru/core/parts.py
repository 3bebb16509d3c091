"""What operations and standing work are made of, put together, without the standing work itself.

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
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import structlog

from eru.core.commit import Committer
from eru.core.engines import NodeEngines
from eru.core.events import Events
from eru.core.fanout import Fanout
from eru.core.fleet import Fleet
from eru.core.images import Images
from eru.core.ledger import Ledger, Operation, StoredWorkload
from eru.core.planner import Planner
from eru.core.remap import Remapper
from eru.core.reports import Reports
from eru.core.session import Session
from eru.core.settings import CoreSettings
from eru.core.statuses import Hub, StatusEvent
from eru.core.view import NodeView
from eru.engine.contract import Engine
from eru.engine.pool import EnginePool
from eru.lib.log import trace_id
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import NotFound, Refused
from eru.model.intents import Intent
from eru.model.nodes import Node
from eru.model.workloads import Workload
from eru.resource.contract import Kind
from eru.store.contract import Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

_OP_ID_LENGTH = 16
_OP_SUFFIX_LENGTH = 8  # after the trace id, which a client may use twice


class Parts:
    """See the module. `eru.core.app.Core` adds what goes on by itself, and the life of the whole."""

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
        self.left_behind = asyncio.Event()  # an operation left intents: recovery looks at once
        self.draining = False
        self.deployed = 0  # instances made here, for metrics
        self.session = Session(world, store, keys, settings)
        self.fleet = Fleet(world, store, keys, settings, self.kinds)
        self.fleet.forget_engine = engines.forget
        self.fanout = Fanout(world, store, keys, settings, self.tasks)
        self.fleet.readers = self.fanout
        self.fleet.statuses.listen(self.fanout.hear)
        self.reports = Reports(world, store, keys, self.tasks, self._intents)
        self.fleet.statuses.listen(self.reports.hear)
        self.committer = Committer(store, keys, self.fleet, self.tasks, settings)
        self.ledger = Ledger(world, store, keys, self.kinds, self.fleet, self.committer)
        self.planner = Planner(self.fleet.view)
        self._node_engines = NodeEngines(engines, self.fleet, store, keys)
        self.events = Events(world, settings, self.session, self.fleet, self._node_engines, self.tasks)
        self.images = Images(self.background, settings.engine_slow_call_s, self.events)
        self.remapper = Remapper(store, keys, settings, self.kinds, self.fleet, self._node_engines, self.background)

    def _intents(self) -> Iterable[Intent]:
        return [found.intent for found in self.fleet.view.intents.values()]

    @property
    def statuses(self) -> Hub[StatusEvent]:
        """The hub of workload status events."""
        return self.fleet.statuses

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
                self.left_behind.set()

    async def engine_for(self, node: Node | NodeView | str) -> Engine:
        """The node's engine. One that does not answer is returned too: its calls say why.

        Raises NotFound for an unknown node.
        """
        return await self._node_engines.of(node)

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
