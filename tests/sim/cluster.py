"""A whole cluster in one process: several cores, fake nodes, one store, one seed."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from eru.core.accounts import within
from eru.core.app import Core
from eru.core.settings import CoreSettings
from eru.engine.contract import Engine
from eru.engine.fake import FakeCluster, FakeEngine
from eru.engine.pool import EnginePool, Opening, PoolSettings
from eru.lib.tasks import TaskOwner
from eru.lib.world import LoopClock, World
from eru.model.errors import StoreError
from eru.model.intents import Intent
from eru.model.nodes import Node, NodeResource, Pod
from eru.model.workloads import Workload
from eru.resource.registry import builtin_kinds
from eru.store.contract import Change, Put
from eru.store.faulty import FaultyStore
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from sim.faults import Chances, CoreFaults, faulty_engine
from sim.loop import PROCESS, SimLoop

CORES_PER_NODE = 4
MEMORY_PER_NODE = 1 << 30
POD = "pod"


@dataclass(slots=True)
class Life:
    """One life of a core, from start to crash."""

    name: str
    core: Core
    store: FaultyStore
    engines: EnginePool
    faults: CoreFaults
    context: contextvars.Context


@dataclass
class Cluster:
    """See the module. `story`: what happened, with virtual times."""

    seed: int
    cores: int = 2
    nodes: int = 4
    loud: bool = False
    chances: Chances = field(default_factory=Chances)
    story: list[str] = field(default_factory=list)
    lives: dict[str, Life] = field(default_factory=dict)
    dissociated: set[str] = field(default_factory=set)
    unwilling: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    ever: set[str] = field(default_factory=set)
    ever_named: set[str] = field(default_factory=set)
    groups: dict[str, set[str]] = field(default_factory=dict)
    told_made: set[str] = field(default_factory=set)
    told_failed: set[str] = field(default_factory=set)
    crashes: int = 0
    faults_told: int = 0
    healing: bool = False

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.world = World(LoopClock(), random.Random(self.seed + 1))
        self.keys = Keys()
        self.kinds = builtin_kinds()
        self.store = MemoryStore(self.world)
        self.fakes = FakeCluster()
        self.late = TaskOwner("late effects")
        self._restarts = TaskOwner("restarts")
        self.outside = contextvars.copy_context()  # of no core: what is started in it outlives all of them

    def tell(self, text: str) -> None:
        """One line of the story."""
        self.faults_told += 1
        line = f"{asyncio.get_running_loop().time():9.3f}  {text}"
        self.story.append(line)
        if self.loud:
            print(line)

    async def build(self) -> None:
        """Pod, nodes and cores."""
        writes: list[Put] = [Put(self.keys.pod(POD), Pod(name=POD).encode())]
        for number in range(self.nodes):
            name = f"node{number:02d}"
            capacity = {
                "cpu": float(CORES_PER_NODE),
                "cpu_map": {str(core): 100 for core in range(CORES_PER_NODE)},
                "memory": MEMORY_PER_NODE,
                "numa": {},
                "numa_memory": {},
            }
            usage = self.kinds["cpumem"].zero(capacity)
            record = NodeResource(capacity={"cpumem": capacity}, usage={"cpumem": usage})
            node = Node(name=name, podname=POD, endpoint=f"fake://{name}", test=True)
            writes += [Put(self.keys.node(name), node.encode()), Put(self.keys.resource(name), record.encode())]
        for start in range(0, len(writes), 100):
            await self.store.txn([], writes[start : start + 100])
        for number in range(self.cores):
            await self.start_core(f"core{number}")

    async def start_core(self, name: str) -> None:
        """A new life of a core; tried until the store lets it register."""
        while True:
            context = contextvars.copy_context()
            context.run(PROCESS.set, f"{name}/{self.crashes}/{self.world.hex(4)}")
            life = self._life(name, context)
            self.lives[name] = life
            try:
                await asyncio.get_running_loop().create_task(life.core.start(), context=context)
            except asyncio.CancelledError:
                return  # it crashed while it started; its restart is under way
            except StoreError as error:
                if life.faults.dead:
                    return
                self.tell(f"{name} does not start: {error}")
                self.crash(life, quiet=True)
                await self.world.clock.sleep(1.0)
            else:
                self.tell(f"{name} runs as {life.core.session.id}")
                return

    def _life(self, name: str, context: contextvars.Context) -> Life:
        life: Life

        def crash() -> None:
            self.crash(life)

        faults = CoreFaults(name, random.Random(self.chance.random()), self.chances, crash, self.tell, self.unwilling)
        store = FaultyStore(self.store, faults.store, self.world)

        async def open_fake(opening: Opening) -> Engine:
            engine = FakeEngine(opening.world, opening.endpoint, self.fakes)
            found: Engine = faulty_engine(self.world, engine, faults, self.do_late)
            return found

        engines = EnginePool(self.world, {"fake": open_fake}, PoolSettings(ping_every_s=0, retry_most_s=2.0))
        core = Core(self.world, store, self.keys, engines, self.kinds, SETTINGS)
        life = Life(name, core, store, engines, faults, context)
        return life

    def do_late(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that happens although whoever asked for it has gone."""
        self.outside.run(self.late.start, "effect", work)

    def crash(self, life: Life, quiet: bool = False) -> None:
        """`kill -9`: nothing that this core was doing goes on, and nothing of it takes effect any more."""
        if life.faults.dead:
            return
        life.faults.dead = True
        life.core.committer.close()
        life.core.reports.close()
        if self.lives.get(life.name) is life:
            del self.lives[life.name]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.kill(life.context[PROCESS])
        if not quiet:
            self.crashes += 1
            self.outside.run(self._restarts.start, life.name, self._restart(life.name))

    async def _restart(self, name: str) -> None:
        await self.world.clock.sleep(self.chance.uniform(0.1, 30.0))
        if name not in self.lives:
            await self.start_core(name)

    def anyone(self) -> Life | None:
        """A core that runs, by chance."""
        return self.lives[self.chance.choice(sorted(self.lives))] if self.lives else None

    def run_in(self, life: Life, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of that core: it dies with it."""
        return asyncio.get_running_loop().create_task(work, context=life.context)

    async def trouble(self) -> None:
        """Engines that go away and come back, for as long as the world is not healed."""
        while not self.healing:
            await self.world.clock.sleep(0.05)
            if self.chance.random() < self.chances.node_down:
                name = f"node{self.chance.randrange(self.nodes):02d}"
                length_s = self.chance.choice([0.3, 3.0, 20.0])
                self.tell(f"{name} does not answer for {length_s} s")
                self.fakes.node(name).down = True
                self.outside.run(self.late.start, "up", self._up_again(name, length_s))

    async def _up_again(self, name: str, after_s: float) -> None:
        await self.world.clock.sleep(after_s)
        self.fakes.node(name).down = False

    async def guard(self) -> None:
        """What must hold at every moment: no node gives away more than it has."""
        watch = await self.store.watch(self.keys.resources, self.store.revision)
        async for batch in watch:
            for event in batch.events:
                if event.change is Change.DELETE:
                    continue
                record = NodeResource.decode(event.item.value)
                if not within(record.usage, record.capacity):
                    self.broken.append(f"{event.item.key} was over-allocated at revision {batch.revision}")

    async def remember(self) -> None:
        """Which workloads were ever recorded, and which were to share one fate."""
        watch = await self.store.watch(self.keys.everything, 1)
        async for batch in watch:
            for event in batch.events:
                room, parts = self.keys.split(event.item.key)
                if room == "workload":
                    self.ever.add(parts[0])
                    if event.change is Change.PUT:
                        self.ever_named.add(Workload.decode(event.item.value).name)
                elif room == "intent" and event.change is Change.PUT:
                    intent = Intent.decode(event.item.value)
                    if intent.group:
                        self.groups.setdefault(intent.group, set()).add(intent.name)

    async def heal(self) -> None:
        """No more faults; every core comes back."""
        self.chances.heal()
        self.healing = True
        self.tell("healed")
        for node in self.fakes.nodes.values():
            node.down = False
        while self._restarts.names():  # a crash that was decided before may still come
            await self._restarts.wait_idle(100.0)
        for name in [f"core{number}" for number in range(self.cores)]:
            if name not in self.lives:
                await self.start_core(name)

    async def close(self) -> None:
        await self._restarts.close()
        await self.world.clock.sleep(0)
        for life in list(self.lives.values()):
            self.crash(life, quiet=True)
        await self.late.close()
        await self.world.clock.sleep(30.0)
        await self.store.close()


SETTINGS = CoreSettings(
    identifier="sim",
    session_ttl_s=6,
    engine_call_s=20.0,
    engine_slow_call_s=30.0,
    hold_wait_s=10.0,
    fresh_wait_s=5.0,
    operation_s=60.0,
    orphan_round_s=30.0,
)
