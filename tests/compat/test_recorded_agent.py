"""The whole life of a published agent, as it was recorded: start, reports, a killed container, farewell."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eru.core.app import Core
from eru.core.service import serve
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import real_world
from eru.resource.registry import builtin_kinds
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from eru.wire.server import ServerSettings

RECORDING = Path(__file__).parent / "recorded_agent.jsonl"
METHODS = {method.name: method for method in rpc.ALL.values() if method.service == "pb.CoreRPC"}
ID = re.compile(rb"[0-9a-f]{64}")


@pytest.fixture
async def serving() -> AsyncIterator[tuple[Core, CoreClient]]:
    world = real_world()
    store = MemoryStore(world)
    engines = EnginePool(world, engine_factories(fakes=FakeCluster()))
    core = Core(world, store, Keys(), engines, builtin_kinds(), CoreSettings(address="127.0.0.1:1"))
    await core.start()
    server = await serve(core, ServerSettings(bind="127.0.0.1:0", drain_s=0.2))
    async with connect(f"127.0.0.1:{server.port}", world=world) as connected:
        yield core, connected
    await core.drain(1)
    await server.drain()
    await core.stop()
    await engines.close()
    await store.close()


async def test_life(serving: tuple[Core, CoreClient]) -> None:
    """After each call, what everybody else sees of the node and its workload."""
    core, client = serving
    await client.unary(rpc.AddPod, pb.AddPodOptions(name="pod"))
    node = pb.AddNodeOptions(nodename="svcnode", podname="pod", endpoint="fake://svcnode")
    await client.unary(rpc.AddNode, node)
    deploy = pb.DeployOptions(
        name="svcapp",
        podname="pod",
        image="bb",
        count=1,
        nodenames=["svcnode"],
        entrypoint=pb.EntrypointOptions(name="web", publish=["8080"]),
    )
    (made,) = [message async for message in client.stream(rpc.CreateWorkload, deploy)]
    events: list[pb.WorkloadStatusStreamMessage] = []

    async def follow() -> None:
        async for message in client.stream(rpc.WorkloadStatusStream, pb.WorkloadStatusStreamOptions()):
            events.append(message)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(60):
        while not core.fanout.readers:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)
    seen: list[Any] = []
    for call in map(json.loads, RECORDING.read_text().splitlines()):
        method: Any = METHODS[call["rpc"]]
        data = ID.sub(made.id.encode(), bytes.fromhex(call["request"]))
        await client.unary(method, method.request.FromString(data))
        if call["rpc"].startswith("Set"):
            alive = (await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="svcnode"))).available
            status = (await client.unary(rpc.GetWorkload, pb.WorkloadID(id=made.id))).status
            seen.append((alive, status.running, bool(status.extension)))
    up, running, stopped, gone = (True, False, False), (True, True, True), (True, False, True), (False, False, True)
    assert [row for number, row in enumerate(seen) if not number or row != seen[number - 1]] == [
        up,
        running,
        stopped,
        gone,
    ]
    async with asyncio.timeout(60):
        while len(events) < 2:  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert [event.status.running for event in events] == [True, False]  # the report that said nothing new is silent
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
