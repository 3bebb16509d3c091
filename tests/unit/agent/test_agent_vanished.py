"""Workloads that were removed while no agent looked."""

from __future__ import annotations

from typing import Any, cast

from eru.agent.vanished import report_vanished
from eru.engine.contract import Inspection
from eru.lib.world import real_world
from eru.model.errors import CoreUnreachable, EngineMissing, EngineUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


class Engine:
    """Has what is in `there`; does not answer for what is in `silent`."""

    there = ("there",)
    silent = ("silent",)

    async def inspect(self, id: str) -> Inspection:
        if id in self.silent:
            raise EngineUnreachable("away")
        if id not in self.there:
            raise EngineMissing(id)
        return Inspection(id=id, name=id, running=True)


class Core:
    """Believes that all of them run; is away for the first call."""

    def __init__(self, *first: Exception) -> None:
        self.errors = list(first)
        self.reported: list[pb.WorkloadStatus] = []

    async def unary(self, method: Any, request: Any, *, timeout_s: float) -> Any:
        if self.errors:
            raise self.errors.pop()
        if method is rpc.SetWorkloadsStatus:
            self.reported += request.status
            return pb.WorkloadsStatus()
        assert request.nodename == "n1"
        rows = [("gone", True), ("seen", True), ("there", True), ("silent", True), ("stopped", False)]
        return pb.Workloads(
            workloads=[
                pb.Workload(id=id, name=f"my_app_web_{id}", status=pb.WorkloadStatus(running=running, healthy=True))
                for id, running in rows
            ]
        )


async def told(core: Core) -> list[str]:
    return await report_vanished(real_world(), cast(Any, core), cast(Any, Engine()), "n1", {"seen"}, 5)


async def test_only_what_the_engine_does_not_have_is_reported_as_ended() -> None:
    core = Core(CoreUnreachable("away"))
    assert await told(core) == ["gone"]
    [status] = core.reported
    assert (status.id, status.running, status.healthy, status.appname) == ("gone", False, False, "my_app")


async def test_a_core_that_cannot_tell_is_left_alone() -> None:
    core = Core(RemoteError("unimplemented"))
    assert await told(core) == []
    assert core.reported == []
