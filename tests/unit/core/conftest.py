"""One or more cores in this process, on the memory store and fake engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from eru.core.app import Core
from eru.core.ops.deploy import deploy
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import World, real_world
from eru.model.deploy import DeploySpec, Entrypoint, NodeFilter
from eru.model.nodes import Node, NodeResource, Pod
from eru.model.results import Deployed
from eru.model.workloads import Workload
from eru.resource.contract import Kind
from eru.resource.registry import builtin_kinds
from eru.store.contract import Put, range_all
from eru.store.keys import Keys
from eru.store.memory import MemoryStore

MIB = 1 << 20


@dataclass
class Lab:
    """Everything a test may want to look at."""

    world: World
    store: MemoryStore
    keys: Keys
    fakes: FakeCluster
    cores: list[Core] = field(default_factory=list)
    pools: list[EnginePool] = field(default_factory=list)

    @property
    def core(self) -> Core:
        return self.cores[0]

    async def add_core(self, kinds: dict[str, Kind] | None = None, **settings: Any) -> Core:
        pool = EnginePool(self.world, engine_factories(fakes=self.fakes), PoolSettings(ping_every_s=0))
        chosen = {
            "identifier": "lab",
            "hold_wait_s": 0.5,
            "recovery_settle_s": 0.01,
            "death_damping_s": 0.1,
            **settings,
        }
        core = Core(self.world, self.store, self.keys, pool, kinds or builtin_kinds(), CoreSettings(**chosen))
        await core.start()
        self.cores.append(core)
        self.pools.append(pool)
        return core

    async def add_nodes(self, *names: str, cores: int = 4, memory: int = 1 << 30, knobs: str = "", **more: Any) -> None:
        for name in names:
            capacity = {
                "cpu": float(cores),
                "cpu_map": {str(core): 100 for core in range(cores)},
                "memory": memory,
                "numa": {},
                "numa_memory": {},
            }
            usage = builtin_kinds()["cpumem"].zero(capacity)
            record = NodeResource(capacity={"cpumem": capacity}, usage={"cpumem": usage})
            settings = {"podname": "pod", "endpoint": f"fake://{name}{knobs}", "test": True, **more}
            node = Node(name=name, **settings)
            writes = [Put(self.keys.node(name), node.encode()), Put(self.keys.resource(name), record.encode())]
            result = await self.store.txn([], [Put(self.keys.pod("pod"), Pod(name="pod").encode()), *writes])
        for core in self.cores:
            await core.fleet.caught_up(result.revision)

    def spec(self, count: int = 1, **more: Any) -> DeploySpec:
        chosen: dict[str, Any] = {
            "app": "app",
            "entrypoint": Entrypoint(name="web", commands=["serve"]),
            "image": "image",
            "nodes": NodeFilter(podname="pod"),
            "resources": {"cpumem": {"cpu-request": 0.1, "memory-request": 64 * MIB}},
            "ignore_pull": True,
            **more,
        }
        return DeploySpec(count=count, **chosen)

    async def deploy(self, count: int = 1, core: Core | None = None, **more: Any) -> list[Deployed]:
        async with aclosing(deploy(core or self.core, self.spec(count, **more))) as results:
            return [result async for result in results]

    async def workloads(self) -> list[Workload]:
        return [Workload.decode(item.value) for item in (await range_all(self.store, self.keys.workloads))[0]]

    async def intents(self) -> list[str]:
        return [item.key for item in (await range_all(self.store, self.keys.intents))[0]]

    async def diffs(self) -> list[str]:
        """Where a node's usage is not the sum of the grants of its workloads."""
        workloads = await self.workloads()
        found = []
        for item in (await range_all(self.store, self.keys.resources))[0]:
            name = item.key.rpartition("/")[2]
            grants = [workload.grant["cpumem"] for workload in workloads if workload.nodename == name]
            usage = NodeResource.decode(item.value).usage["cpumem"]
            found += builtin_kinds()["cpumem"].diffs(usage, grants)
        return found

    async def at_rest(self) -> None:
        """Wait until the books agree: with each other and with the engines."""

        async def rest() -> bool:
            recorded = {workload.id for workload in await self.workloads()}
            return not await self.intents() and not await self.diffs() and recorded == set(self.fakes.containers())

        await self.until(rest)

    async def until(self, true: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait for something that must become true."""
        async with asyncio.timeout(60):
            while True:
                now = true()
                if now if isinstance(now, bool) else await now:
                    return
                await asyncio.sleep(0.01)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    world = real_world()
    made = Lab(world, MemoryStore(world), Keys(), FakeCluster())
    await made.add_core()
    yield made
    for core in made.cores:
        await core.stop()
    for pool in made.pools:
        await pool.close()
    await made.store.close()
