"""One id from the request to log lines, intents, the workload and the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import structlog

from eru.core import app
from eru.lib.log import trace_id
from eru.lib.tasks import TaskOwner
from eru.model.intents import Intent
from eru.model.workloads import LABEL_TRACE, Workload
from eru.store.contract import range_all
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

TRACE = "0123456789abcdef"


async def test_one_id_all_the_way(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []
    intents: set[str] = set()
    decided = Intent.encode

    def keep(logger: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        lines.append(dict(event))
        raise structlog.DropEvent

    def encode(self: Intent) -> bytes:
        intents.add(self.op)
        return decided(self)

    processors: list[Any] = [structlog.contextvars.merge_contextvars, keep]
    monkeypatch.setattr(app, "_log", structlog.wrap_logger(structlog.PrintLogger(), processors=processors))
    monkeypatch.setattr(Intent, "encode", encode)
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
    assert {line["trace"] for line in lines if line["event"] == "operation begins"} == {TRACE}
    assert intents
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
