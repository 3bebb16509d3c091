"""What happened, as a core tells it: in order, by app, workload and node, with its reason, bounded, and followed."""

from __future__ import annotations

import asyncio
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import orjson
import pytest

from eru.core.events import Happened, Wanted
from eru.core.ops import events as ops
from eru.core.service import shut_down
from eru.model.errors import Refused, RemoteError
from eru.model.workloads import Workload
from eru.store.contract import Put
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1


def options(**more: Any) -> pb.DeployOptions:
    bag = orjson.dumps({"cpu-request": 0.1, "memory-request": 1 << 20})
    chosen = {"name": "app", "podname": "pod", "image": "img", "count": 1, "resources": {"cpumem": bag}, **more}
    return pb.DeployOptions(entrypoint=pb.EntrypointOptions(name="web"), **chosen)


async def asked(cluster: Any, **wanted: Any) -> list[v1.Event]:
    return [event async for event in cluster.client.stream(rpc.Events, v1.EventsRequest(**wanted))]


def kinds(events: list[v1.Event]) -> list[str]:
    return [event.kind for event in events]


def end(cluster: Any, id: str, code: int) -> None:
    """The workload ends by itself."""
    node = cluster.fakes.node("n1")
    node.end(node.containers[id], cluster.world.clock.now(), code)


@pytest.fixture
async def ready(cluster: Any) -> Any:
    await cluster.add_pod()
    await cluster.add_node("n1")
    return cluster


async def until(true: Callable[[], bool | Awaitable[bool]], wait_s: float = 60.0) -> None:
    """Wait for something that must become true."""
    async with asyncio.timeout(wait_s):
        while True:
            now = true()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(0.01)


async def report(cluster: Any, id: str, running: bool, healthy: bool) -> None:
    status = pb.WorkloadStatus(id=id, running=running, healthy=healthy)
    await cluster.client.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=[status]))


async def test_the_life_of_a_workload(ready: Any) -> None:
    [made] = await ready.deploy(1)
    await report(ready, made.id, running=True, healthy=False)
    await report(ready, made.id, running=True, healthy=True)
    await report(ready, made.id, running=True, healthy=True)
    bag = {"cpumem": orjson.dumps({"memory-request": 1 << 20})}
    await ready.client.unary(rpc.ReallocResource, pb.ReallocOptions(id=made.id, resources=bag))
    stop = pb.ControlWorkloadOptions(IDs=[made.id], type="stop")
    assert [message.error async for message in ready.client.stream(rpc.ControlWorkload, stop)] == [""]
    gone = pb.RemoveWorkloadOptions(IDs=[made.id], force=True)
    assert [message.success async for message in ready.client.stream(rpc.RemoveWorkload, gone)] == [True]
    told = await asked(ready, ids=[made.id])
    life = ["pulling", "pulled", "planned", "created", "started", "recorded", "running", "healthy", "resized"]
    life += ["stopping", "stopped", "removed"]
    assert kinds(told) == life[2:], "of one workload everything, also what was told under its name only"
    assert {event.name for event in told} == {made.name}
    assert {(event.appname, event.entrypoint, event.nodename) for event in told} == {("app", "web", "n1")}
    assert [event.time_ns for event in told] == sorted(event.time_ns for event in told)
    assert {event.core for event in told} == {ready.core.session.id}
    assert "memory" in told[life.index("resized") - 2].detail
    deploying = {event.trace_id for event in told[:4]}
    assert len(deploying) == 1
    assert deploying != {""}
    of_app = await asked(ready, appname="app")
    assert sorted(kinds(of_app)) == sorted(life)
    assert await asked(ready, ids=[made.name]) == told
    assert kinds(await asked(ready, appname="app", limit=2)) == ["stopped", "removed"]
    assert await asked(ready, appname="app", since_ns=told[-1].time_ns) == told[-1:]
    assert await asked(ready, appname="app", entrypoint="other") == []
    assert len(await asked(ready, nodename="n1")) == len(life)
    assert await asked(ready, ids=["never-heard-of", "a/b"]) == []


async def test_refused_and_failed_with_the_reason(ready: Any) -> None:
    [refused] = await ready.deploy(100_000)
    [told] = await asked(ready, appname="app")
    assert told.kind == "refused"
    assert told.error == refused.error
    await ready.client.unary(
        rpc.AddNode, pb.AddNodeOptions(nodename="bad", podname="pod", endpoint="fake://bad?fail_start=1", test=True)
    )
    only = pb.NodeFilter(includes=["bad"])
    [failed] = [message async for message in ready.client.stream(rpc.CreateWorkload, options(node_filter=only))]
    told = await asked(ready, ids=[failed.name])
    assert kinds(told)[:2] == ["planned", "created"]
    assert sorted(kinds(told)[2:]) == ["failed", "released"]
    assert next(event.error for event in told if event.kind == "failed") == failed.error != ""


async def test_why_it_ended(ready: Any) -> None:
    [made] = await ready.deploy(1)
    await report(ready, made.id, running=True, healthy=True)
    end(ready, made.id, 137)
    await report(ready, made.id, running=False, healthy=False)

    async def down() -> list[v1.Event]:
        return [event for event in await asked(ready, ids=[made.id]) if event.kind == "down"]

    async def told() -> bool:
        return bool(await down())

    await until(told)
    assert (await down())[0].error == "ended with exit code 137 (signal 9)"


async def test_nodes(ready: Any) -> None:
    await ready.add_node("mortal", test=False)
    for ttl in (60, 60, -1):
        await ready.client.unary(rpc.SetNodeStatus, pb.SetNodeStatusOptions(nodename="mortal", ttl=ttl))
    await ready.client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="mortal", bypass=pb.TRUE))
    up, down, bypassed = await asked(ready, nodename="mortal")
    assert kinds([up, down, bypassed]) == ["node-up", "node-down", "node-down"]
    assert "SetNodeStatus" in down.detail
    assert down.trace_id
    assert "bypass" in bypassed.detail


async def test_progress_of_a_deploy(ready: Any) -> None:
    await ready.add_node("n2")
    request = v1.DeployRequest(options=options(count=3), progress=True)
    other = asyncio.create_task(ready.deploy(2))
    told = [event async for event in ready.client.stream(rpc.Deploy, request)]
    await other
    steps = [one.progress for one in told if one.HasField("progress")]
    made = [one.instance for one in told if one.HasField("instance")]
    assert [one.success for one in made] == [True] * 3
    for one in made:
        ours = [step.kind for step in steps if step.name == one.name]
        assert ours == ["planned", "created", "started", "recorded"]
    assert {step.name for step in steps} - {""} == {one.name for one in made}, "nothing of anybody else"
    silent = v1.DeployRequest(options=options())
    assert [one.HasField("progress") async for one in ready.client.stream(rpc.Deploy, silent)] == [False]


async def test_followed_and_cut_off(ready: Any) -> None:
    heard: list[v1.Event] = []

    async def follow() -> None:
        async for event in ready.client.stream(rpc.Events, v1.EventsRequest(appname="app", follow=True)):
            heard.append(event)

    await ready.deploy(1)
    following = asyncio.create_task(follow())
    await until(lambda: len(heard) == 6)
    [made] = await ready.deploy(1)
    await until(lambda: len(heard) == 10)
    assert kinds(heard[6:]) == ["planned", "created", "started", "recorded"]
    assert {event.id for event in heard[7:]} == {made.id}
    following.cancel()


async def test_a_slow_follower(ready: Any) -> None:
    """It is cut off by what it wants itself, and by nothing else."""
    slow = ops.events(ready.core, Wanted(node="one"), follow=True)
    first = asyncio.ensure_future(anext(slow))
    await asyncio.sleep(0)
    many = ready.core.settings.subscriber_queue_max
    for _ in range(many + 1):
        ready.core.events.tell("failed", node="other")
    ready.core.events.tell("failed", node="one")
    assert (await first).node == "one"
    for _ in range(many + 1):
        ready.core.events.tell("failed", node="one")
    with pytest.raises(Refused, match="cut off"):
        await drained(slow)


async def drained(events: AsyncIterator[Happened]) -> int:
    return len([event async for event in events])


async def test_a_follower_of_a_core_that_goes_away_ends_well(ready: Any) -> None:
    heard: list[v1.Event] = []

    async def follow() -> None:
        async for event in ready.client.stream(rpc.Events, v1.EventsRequest(follow=True)):
            heard.append(event)

    following = asyncio.create_task(follow())
    await ready.deploy(1)
    await until(lambda: len(heard) >= 4)
    await shut_down(ready.core, ready.server, 1.0)
    async with asyncio.timeout(60):
        await following


async def test_a_refusal_is_told_as_data_too(ready: Any) -> None:
    await ready.client.unary(rpc.AddPod, pb.AddPodOptions(name="other"))
    await ready.add_node("n2", labels={"zone": "a"})
    wanted = options(count=100_000, nodelabels={"zone": "a"})
    [event] = [one async for one in ready.client.stream(rpc.Deploy, v1.DeployRequest(options=wanted))]
    told = {one.nodename: (one.reason, one.detail) for one in event.refusals}
    assert told["n1"][0] == "label"
    assert told["n2"][0] == "limit"
    assert "of 100,000" in told["n2"][1]
    assert event.instance.error.startswith("need: 100000, available: ")
    assert "without a label asked for: 1 node" in event.instance.error
    with pytest.raises(RemoteError) as refused:
        await ready.client.unary(rpc.CalculateCapacity, wanted)
    assert {one.nodename for one in refused.value.refusals} == {"n1", "n2"}
    fits = await ready.client.unary(rpc.Plan, v1.PlanRequest(options=options(nodelabels={"zone": "a"})))
    assert fits.error == ""
    assert [(one.nodename, one.reason) for one in fits.refusals] == [("n1", "label")]


async def test_a_fresh_core_tells_what_others_know(ready: Any) -> None:
    """The journal is empty; store and engine are not."""
    [made] = await ready.deploy(1)
    end(ready, made.id, 3)
    key = ready.keys.workload(made.id)
    record = Workload.decode((await ready.store.get(key)).value)
    late = msgspec.structs.replace(record, create_time=record.create_time + 2)  # it is written after the start
    await ready.store.txn([], [Put(key, late.encode())])
    journal = ready.core.events
    core = ready.core
    core.events = type(journal)(core.world, core.settings, core.session, core.fleet, journal._engines, journal._tasks)
    for wanted in (made.id, made.name):
        created, started, down = await asked(ready, ids=[wanted])
        assert kinds([created, started, down]) == ["created", "started", "down"]
        assert (created.id, created.name, created.nodename) == (made.id, made.name, "n1")
        assert "record" in created.detail
        assert created.core == ""
        assert down.error == "ended with exit code 3"
    assert await asked(ready, appname="app") == []


@pytest.mark.parametrize(
    "wrong", [{"limit": -1}, {"since_ns": -1}, {"ids": ["x"] * 2000 + [str(n) for n in range(2000)]}]
)
async def test_what_cannot_be_asked(ready: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(RemoteError) as error:
        await asked(ready, **wrong)
    assert error.value.kind == "InvalidInput"


async def test_bounded_and_cheap(ready: Any) -> None:
    """The indexes forget with the journal; ten microseconds would be 100,000 events a second of one core."""
    events, kept = ready.core.events, ready.core.settings.events_kept_max

    def tell() -> None:
        number = events._number
        events.tell("created", name=f"app_web_{number}", id=f"{number:064x}", node=f"n{number % 100}")

    seconds = timeit.timeit(tell, number=kept * 3)
    print(f"{seconds / kept / 3 * 1e6:.1f} us per event")
    assert len(events) == kept
    assert len(events._of_workload) == 2 * kept
    assert sum(map(len, events._of_node.values())) == kept
    assert len(await asked(ready)) == kept
    oldest = (await asked(ready))[0]
    assert oldest.name == f"app_web_{events._number - kept}"
    assert await asked(ready, ids=[f"app_web_{events._number - kept - 1}"]) == []
