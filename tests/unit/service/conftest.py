"""A whole core in this process: memory store, fake engines, a real gRPC server and our client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from eru.core.app import Core
from eru.core.service import serve
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import World, real_world
from eru.resource.registry import builtin_kinds
from eru.store.contract import range_all
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.server import RpcServer, ServerSettings


@dataclass
class Cluster:
    """Everything a test may want to look at."""

    world: World
    store: MemoryStore
    keys: Keys
    engines: EnginePool
    fakes: FakeCluster
    core: Core
    server: RpcServer
    client: CoreClient

    async def add_pod(self, name: str = "pod") -> None:
        await self.client.unary(rpc.AddPod, pb.AddPodOptions(name=name))

    async def add_node(self, name: str, podname: str = "pod", **options: Any) -> pb.Node:
        settings = {"endpoint": f"fake://{name}?cpu=4&memory=8G", "test": True, **options}
        return await self.client.unary(rpc.AddNode, pb.AddNodeOptions(nodename=name, podname=podname, **settings))

    async def deploy(self, count: int = 1, **options: Any) -> list[pb.CreateWorkloadMessage]:
        settings = {"resources": {"cpumem": orjson.dumps({"cpu-request": 0.1, "memory-request": 1 << 20})}, **options}
        request = pb.DeployOptions(
            name="app", podname="pod", image="img", count=count, entrypoint=pb.EntrypointOptions(name="web"), **settings
        )
        return [message async for message in self.client.stream(rpc.CreateWorkload, request)]

    async def stored(self) -> dict[str, bytes]:
        """What clients could have changed: everything but the cores' own registrations."""
        items, _ = await range_all(self.store, self.keys.everything)
        ours = {"core", "leader"}
        return {item.key: item.value for item in items if self.keys.split(item.key)[0] not in ours}


async def until(true: Callable[[], bool | Awaitable[bool]], wait_s: float = 60.0) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(wait_s):
        while True:
            now = true()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    world = real_world()
    store, keys, fakes = MemoryStore(world), Keys(), FakeCluster()
    engines = EnginePool(world, engine_factories(fakes=fakes))
    times = {"death_damping_s": 0.2, "hold_wait_s": 1.0, "push_interval_s": 0.3}
    settings = CoreSettings(address="127.0.0.1:1", events_kept_max=500, **times)
    core = Core(world, store, keys, engines, builtin_kinds(), settings)
    await core.start()
    server = await serve(core, ServerSettings(bind="127.0.0.1:0", drain_s=1.0))
    try:
        async with connect(f"127.0.0.1:{server.port}", world=world) as client:
            yield Cluster(world, store, keys, engines, fakes, core, server, client)
    finally:
        await core.drain(1.0)
        await server.drain()
        await core.stop()
        await engines.close()
        await store.close()
