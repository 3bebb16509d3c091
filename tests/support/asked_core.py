"""A whole core with a pod, two nodes and two workloads, which tests ask whatever they like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from eru.core.app import Core
from eru.core.service import serve
from eru.core.settings import CoreSettings
from eru.engine.contract import EngineLimits
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.errors import RemoteError
from eru.resource.registry import builtin_kinds
from eru.store.contract import range_all
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.methods import Method, StreamStream, UnaryStream, UnaryUnary
from eru.wire.server import RpcServer, ServerSettings
from eru.wire.status import INTERNAL

CALL_S = 60.0  # no call may take longer, whatever was asked
FOLLOW_S = 0.03  # watch streams are left after that
REST_S = 60.0  # what was begun must have ended by then, on a busy machine
RUN_S = 1.0  # what runs inside may never end, and is left after that
_RUNS = (rpc.RunAndWait, rpc.ExecuteWorkload, rpc.Attach)


class Defects:
    """An observer of calls that keeps those which ended with a status that no call may end with."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def call_started(self, rpc: str) -> None:
        return None

    def call_ended(self, rpc: str, number: int, seconds: float) -> None:
        if number == INTERNAL:
            self.calls.append(rpc)


class Target:
    """A core with a pod, two nodes and two workloads, made anew when an example changed it."""

    def __init__(self, knobs: str = "cpu=4&memory=4G") -> None:
        self.knobs = knobs
        self.defects = Defects()
        self.messages: list[Any] = []  # what the last call answered
        self.runner = asyncio.Runner()
        self.world = real_world()
        self.stop: list[Any] = []
        self.baseline: dict[str, bytes] = {}

    async def start(self) -> None:
        self.store, self.keys, self.fakes = MemoryStore(self.world), Keys(), FakeCluster()
        pool = PoolSettings(connect_timeout_s=2.0, limits=EngineLimits())
        engines = EnginePool(self.world, engine_factories(fakes=self.fakes), pool)
        limits = CoreSettings(
            address="127.0.0.1:1",
            hold_wait_s=0.5,
            engine_call_s=2.0,
            engine_slow_call_s=2.0,
            operation_s=3.0,
            recovery_settle_s=0.1,
            recovery_every_s=0.2,
        )
        self.core = Core(self.world, self.store, self.keys, engines, builtin_kinds(), limits)
        await self.core.start()
        settings = ServerSettings(bind="127.0.0.1:0", drain_s=0.1)
        self.server: RpcServer = await serve(self.core, settings, self.defects)
        self.client: CoreClient = connect(f"127.0.0.1:{self.server.port}", world=self.world)
        await self.client.__aenter__()
        self.stop = [self.client.close, self.server.drain, self.core.stop, engines.close, self.store.close]
        await self.client.unary(rpc.AddPod, pb.AddPodOptions(name="pod"))
        for name in ("n1", "n2"):
            node = pb.AddNodeOptions(nodename=name, podname="pod", endpoint=f"fake://{name}?{self.knobs}", test=True)
            await self.client.unary(rpc.AddNode, node)
        deploy = pb.DeployOptions(
            name="app",
            podname="pod",
            image="img",
            count=2,
            entrypoint=pb.EntrypointOptions(name="web"),
            resources={"cpumem": b'{"cpu-request": 0.5, "memory-request": 1048576}'},
        )
        self.ids = [made.id async for made in self.client.stream(rpc.CreateWorkload, deploy)]
        self.baseline = await self.stored()

    async def close(self) -> None:
        for step in self.stop:
            await step()

    async def stored(self) -> dict[str, bytes]:
        items, _ = await range_all(self.store, self.keys.everything)
        return {item.key: item.value for item in items if self.keys.split(item.key)[0] not in ("core", "leader")}

    async def call(self, method: Method[Any, Any], requests: list[Any]) -> RemoteError | None:
        """The error, if that was the answer. Watch streams are left after a moment."""
        self.messages = []
        try:
            async with asyncio.timeout(CALL_S):
                if isinstance(method, UnaryUnary):
                    self.messages.append(await self.client.unary(method, requests[0], timeout_s=CALL_S))
                elif isinstance(method, UnaryStream):
                    await self._drain(self.client.stream(method, requests[0]), method)
                elif isinstance(method, StreamStream):
                    await self._drain(self.client.both(method, _sent(requests)), method)
        except RemoteError as error:
            return error
        return None

    async def _drain(self, messages: Any, method: Method[Any, Any]) -> None:
        try:
            async with asyncio.timeout(FOLLOW_S if method.watches else RUN_S if method in _RUNS else None):
                async for message in messages:
                    self.messages.append(message)
        except TimeoutError:
            if not method.watches and method not in _RUNS:
                raise
        finally:
            await messages.aclose()

    async def settled(self) -> dict[str, bytes]:
        """What is stored once nothing is under way any more."""
        async with asyncio.timeout(REST_S):
            while True:
                now = await self.stored()
                busy = self.core.active or any(self.keys.split(key)[0] == "intent" for key in now)
                if not busy:
                    return now
                await asyncio.sleep(0.01)

    async def check(self, method: Method[Any, Any], error: RemoteError | None) -> None:
        """Nothing unexpected was raised, an error changed nothing, the books are right, core answers."""
        if error is not None:
            assert error.code != 13, f"{method.name}: {error}"
            assert len(str(error)) < 2000
            assert "Traceback" not in str(error)
        now = await self.settled()
        partly = method is rpc.SetWorkloadsStatus  # an unknown workload does not hold up the report about others
        if error is not None and isinstance(method, UnaryUnary) and not partly:
            assert now == self.baseline, f"{method.name} failed ({error}) and changed the store"
        for name in ("n1", "n2"):
            if self.keys.node(name) in now:
                opts = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=name))
                diffs = (await self.client.unary(rpc.GetNodeResource, opts)).diffs
                assert not [diff for diff in diffs if "inspect" not in diff], list(diffs)
        if now != self.baseline:
            await self.close()
            await self.start()


async def _sent(requests: list[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request
