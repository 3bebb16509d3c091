"""What a core tells of a workload that somebody kills behind its back, with a real agent and a real Docker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from eru.wire.core_pb2_grpc import CoreRPCStub
from eru.wire.v1_pb2_grpc import EruStub
from support.user_cluster import POD, Cluster, until
from support.verbs import FOREVER, bag

pytestmark = pytest.mark.docker


@pytest.fixture
def channel(blank: Cluster) -> Iterator[grpc.Channel]:
    done = blank.up()
    assert done.returncode == 0, done.stderr
    with grpc.insecure_channel(blank.bind) as channel:
        yield channel


def options(commands: list[str] | None = None, **more: Any) -> pb.DeployOptions:
    hook = pb.HookOptions(after_start=["echo it is up"])
    entry = pb.EntrypointOptions(name="main", commands=commands or FOREVER, hook=hook)
    resources = bag(memory_request=16 << 20, memory_limit=16 << 20)
    rest: dict[str, Any] = {"name": "told", "podname": POD, "image": "bb", "networks": {"none": ""}, "count": 1, **more}
    return pb.DeployOptions(entrypoint=entry, resources=resources, **rest)


def test_from_plan_to_death(blank: Cluster, channel: grpc.Channel) -> None:
    ours = EruStub(channel)

    def asked(**wanted: Any) -> list[v1.Event]:
        return list(ours.Events(v1.EventsRequest(**wanted)))

    def kinds(id: str) -> list[str]:
        return [event.kind for event in asked(ids=[id])]

    told = list(ours.Deploy(v1.DeployRequest(options=options(), progress=True)))
    steps = [one.progress.kind for one in told[:-1]]
    made = told[-1].instance
    assert made.success, made
    assert steps == ["planned", "created", "started", "hook", "recorded"]
    assert "it is up" in told[3].progress.detail
    until(lambda: "healthy" in kinds(made.id), "the agent's word that it runs")
    subprocess.run(["docker", "-H", blank.engine, "kill", made.id], check=True, capture_output=True)
    until(lambda: "down" in kinds(made.id), "its end")
    events = asked(ids=[made.id])
    assert [event.kind for event in events] == [*steps, "running", "healthy", "down"]
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)
    assert events[-1].error == "ended with exit code 137 (signal 9)"
    assert {event.nodename for event in events} == {blank.node}

    [eater] = ours.Deploy(
        v1.DeployRequest(options=options(name="eater", commands=["sh", "-c", "sleep 1; tail /dev/zero"]))
    )
    until(lambda: "down" in kinds(eater.instance.id), "the end of one that eats memory")
    assert "out of memory" in asked(ids=[eater.instance.id])[-1].error

    core = CoreRPCStub(channel)
    gone = pb.RemoveWorkloadOptions(IDs=[made.id, eater.instance.id], force=True)
    assert all(one.success for one in core.RemoveWorkload(gone))
    assert kinds(made.id)[-1] == "removed"


def test_after_a_restart_of_the_core(blank: Cluster, channel: grpc.Channel) -> None:
    """What happened before is told by the record and by Docker."""
    made = next(iter(EruStub(channel).Deploy(v1.DeployRequest(options=options())))).instance
    blank.kill_core()
    subprocess.run(["docker", "-H", blank.engine, "kill", made.id], check=True, capture_output=True)
    assert blank.up().returncode == 0
    with grpc.insecure_channel(blank.bind) as anew:
        grpc.channel_ready_future(anew).result(90)
        wanted = v1.EventsRequest(ids=[made.name])
        created, started, down = list(EruStub(anew).Events(wanted))[:3]
    assert [created.kind, started.kind, down.kind] == ["created", "started", "down"]
    assert created.time_ns <= started.time_ns + 10**9 <= down.time_ns + 10**9
    assert "exit code 137" in down.error
