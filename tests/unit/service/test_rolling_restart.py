"""Cores are restarted one after the other under load, and no request fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import orjson

from eru.core.app import Core
from eru.core.service import serve, shut_down
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import real_world
from eru.model.errors import EruError
from eru.resource.registry import builtin_kinds
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.server import RpcServer, ServerSettings

DRAIN_S = 10.0
WORLD = real_world()


class Replica:
    """One core of a group on a shared store."""

    def __init__(self, store: MemoryStore, fakes: FakeCluster) -> None:
        self._store, self._fakes = store, fakes
        self.core: Core
        self.server: RpcServer
        self.address = "127.0.0.1:0"

    async def start(self) -> None:
        self._engines = EnginePool(WORLD, engine_factories(fakes=self._fakes))
        port_known = self.address != "127.0.0.1:0"
        settings = CoreSettings(address=self.address, push_interval_s=1.0)
        self.core = Core(WORLD, self._store, Keys(), self._engines, builtin_kinds(), settings)
        self.server = await serve(self.core, ServerSettings(bind=self.address, drain_s=DRAIN_S))
        if not port_known:
            self.address = f"127.0.0.1:{self.server.port}"
            self.core.session.settings = CoreSettings(address=self.address)
        await self.core.start()

    async def stop(self) -> None:
        await shut_down(self.core, self.server, DRAIN_S)
        await self.core.stop()
        await self._engines.close()


class Load:
    """Clients that read and deploy until told to stop."""

    def __init__(self, client: CoreClient) -> None:
        self._client = client
        self.failures: list[str] = []
        self.done: dict[str, int] = {"read": 0, "deploy": 0, "beat": 0}
        self._going = True

    async def run(self) -> None:
        await asyncio.gather(self._repeat("read", self._read), self._repeat("beat", self._beat), self._deploys())

    def stop(self) -> None:
        self._going = False

    async def _deploys(self) -> None:
        await asyncio.gather(*(self._repeat("deploy", self._deploy) for _ in range(4)))

    async def _repeat(self, what: str, work: Any) -> None:
        while self._going:
            try:
                await work()
                self.done[what] += 1
            except EruError as error:
                self.failures.append(f"{what}: {error}")

    async def _read(self) -> None:
        await self._client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))
        async for _ in self._client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(appname="app", limit=5)):
            pass

    async def _beat(self) -> None:
        await self._client.unary(rpc.SetNodeStatus, pb.SetNodeStatusOptions(nodename="n1", ttl=60))
        await asyncio.sleep(0.005)

    async def _deploy(self) -> None:
        request = pb.DeployOptions(
            name="app",
            podname="pod",
            image="img",
            count=2,
            entrypoint=pb.EntrypointOptions(name="web"),
            resources={"cpumem": orjson.dumps({"memory-request": 1 << 20})},
        )
        made = [message async for message in self._client.stream(rpc.CreateWorkload, request)]
        if len(made) != 2 or not all(message.success for message in made):
            self.failures.append(f"deploy: {[message.error for message in made]}")
        gone = pb.RemoveWorkloadOptions(IDs=[message.id for message in made if message.id], force=True)
        async for message in self._client.stream(rpc.RemoveWorkload, gone):
            if not message.success:
                self.failures.append(f"remove: {message.hook}")


async def test_rolling_restart() -> None:
    store, fakes = MemoryStore(WORLD), FakeCluster()
    replicas = [Replica(store, fakes) for _ in range(2)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
        client = await stack.enter_async_context(connect([replica.address for replica in replicas], world=WORLD))
        await client.unary(rpc.AddPod, pb.AddPodOptions(name="pod"))
        node = pb.AddNodeOptions(
            nodename="n1", podname="pod", endpoint="fake://n1?cpu=8&memory=64G&create_ms=5", test=True
        )
        await client.unary(rpc.AddNode, node)
        load = Load(client)
        loading = asyncio.create_task(load.run())
        for replica in [*replicas, *replicas]:
            await asyncio.sleep(0.3)
            await replica.stop()
            await asyncio.sleep(0.2)
            await replica.start()
        await asyncio.sleep(0.3)
        load.stop()
        await loading
    assert not load.failures, "\n".join(load.failures[:20])
    assert min(load.done.values()) > 20, load.done
