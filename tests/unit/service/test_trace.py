"""One id from the request to log lines, intents, the workload and the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import structlog

from eru.lib.log import trace_id
from eru.lib.tasks import TaskOwner
from eru.model.intents import Intent
from eru.model.workloads import LABEL_TRACE, Workload
from eru.store.contract import range_all
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

TRACE = "0123456789abcdef"


async def test_one_id_all_the_way(cluster: Any) -> None:
    intents: set[str] = set()
    written = await cluster.store.watch(cluster.keys.intents, 1)

    seen = asyncio.Event()

    async def follow() -> None:
        async for batch in written:
            intents.update(Intent.decode(event.item.value).op for event in batch.events if event.item.value)
            if intents:
                seen.set()

    following = asyncio.create_task(follow())
    await cluster.add_pod()
    await cluster.add_node("n1")
    request = pb.DeployOptions(
        name="app", podname="pod", image="img", count=2, entrypoint=pb.EntrypointOptions(name="web")
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{cluster.server.port}") as channel:
        method = rpc.CreateWorkload
        call = channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )(request, metadata=(("eru-trace", TRACE),))
        made = [message async for message in call]
        assert dict(await call.trailing_metadata())["eru-trace"] == TRACE
    assert [message.error for message in made] == ["", ""]
    found = [Workload.decode(item.value) for item in (await range_all(cluster.store, cluster.keys.workloads))[0]]
    assert [workload.labels[LABEL_TRACE] for workload in found] == [TRACE, TRACE]
    await written.request_progress()
    await seen.wait()
    await written.close()
    await following
    assert all(op.startswith(f"{TRACE}-") for op in intents)


async def test_background_work_keeps_the_id() -> None:
    seen: list[str] = []

    async def later() -> None:
        seen.append(trace_id())

    owner = TaskOwner("test")
    with structlog.contextvars.bound_contextvars(trace=TRACE):
        owner.start("one", later())
        async with asyncio.TaskGroup() as group:
            group.create_task(later())
    assert await owner.wait_idle(5)
    assert trace_id() == ""
    assert seen == [TRACE, TRACE]


async def test_work_for_everybody_has_no_id() -> None:
    seen: list[str] = []

    async def later() -> None:
        seen.append(trace_id())

    owner = TaskOwner("test", shared=True)
    with structlog.contextvars.bound_contextvars(trace=TRACE):
        owner.start("one", later())
        assert await owner.wait_idle(5)
        assert trace_id() == TRACE
    assert seen == [""]
