"""Deploy, read, control and remove through the wire, and the numbers about it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from eru.core.metrics import CoreMetrics
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1


async def ready(cluster: Any, nodes: int = 2) -> None:
    await cluster.add_pod()
    for number in range(nodes):
        await cluster.add_node(f"n{number}")


async def test_one_message_per_instance(cluster: Any) -> None:
    await ready(cluster)
    made = await cluster.deploy(5, labels={"team": "a"})
    assert len({message.id for message in made}) == 5
    assert all(message.success and not message.error and message.podname == "pod" for message in made)
    assert set(orjson.loads(made[0].resources)["cpumem"]) == {
        "cpu_limit",
        "cpu_map",
        "cpu_request",
        "memory_limit",
        "memory_request",
        "numa_memory",
        "numa_node",
    }


async def test_what_cannot_be_placed_is_one_message_with_only_an_error(cluster: Any) -> None:
    await ready(cluster)
    big = {"cpumem": orjson.dumps({"memory-request": 1 << 60})}
    made = await cluster.deploy(3, resources=big)
    assert len(made) == 1
    assert made[0].error
    assert made[0] == pb.CreateWorkloadMessage(error=made[0].error, resources="null")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "app name is empty"),
        ({"podname": ""}, "pod name is empty"),
        ({"image": ""}, "image is empty"),
        ({"count": 0}, "count is 0"),
        ({"count": -1}, "invalid deploy count"),
        ({"entrypoint": None}, "no entry in spec"),
        ({"entrypoint": pb.EntrypointOptions()}, "entrypoint name is empty"),
        ({"entrypoint": pb.EntrypointOptions(name="a_b")}, "entrypoint name has '_' character"),
        ({"entrypoint": pb.EntrypointOptions(name="web", command="sh -c 'ls")}, "never closed"),
        ({"name": "../evil"}, "app name"),
        ({"deploy_strategy": 7}, "deploy method not support yet"),
        ({"nodenames": ["n0", "a/b"]}, "node name"),
        ({"data": {"/etc/../x": b""}}, "file path"),
    ],
)
async def test_what_is_wrong_in_itself_has_its_number_and_words(
    cluster: Any, options: dict[str, Any], words: str
) -> None:
    await ready(cluster)
    before = await cluster.stored()
    good = {"name": "app", "podname": "pod", "image": "img", "count": 1, "entrypoint": pb.EntrypointOptions(name="web")}
    request = pb.DeployOptions(**{**good, **options})
    with pytest.raises(RemoteError) as caught:
        _ = [message async for message in cluster.client.stream(rpc.CreateWorkload, request)]
    assert caught.value.code == 1074
    assert words in str(caught.value)
    assert await cluster.stored() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"raw_args": b"nonsense"}, "raw_args is not JSON"),
        ({"deploy_strategy": 99}, "deploy method not support yet"),
        ({"resources": {"cpumem": b'{"memory-request":-1}'}}, "invalid memory"),
    ],
)
async def test_what_cannot_be_scheduled_is_one_message_with_only_an_error(
    cluster: Any, options: dict[str, Any], words: str
) -> None:
    await ready(cluster)
    before = await cluster.stored()
    good = {"name": "app", "podname": "pod", "image": "img", "count": 3, "entrypoint": pb.EntrypointOptions(name="web")}
    request = pb.DeployOptions(**{**good, **options})
    messages = [message async for message in cluster.client.stream(rpc.CreateWorkload, request)]
    assert [(words in message.error, message.success, message.id) for message in messages] == [(True, False, "")]
    assert await cluster.stored() == before


async def test_reading(cluster: Any) -> None:
    await ready(cluster)
    client = cluster.client
    made = {message.id for message in await cluster.deploy(4, labels={"team": "a"})}
    listed = [w async for w in client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(appname="app"))]
    assert {workload.id for workload in listed} == made
    assert [(w.nodename, w.id) for w in listed] == sorted((w.nodename, w.id) for w in listed)
    assert dict(listed[0].labels)["team"] == "a"
    limited = pb.ListWorkloadsOptions(appname="app", limit=3, labels={"team": "a"})
    assert len([w async for w in client.stream(rpc.ListWorkloads, limited)]) == 3
    for nothing in ({"appname": "ap"}, {"appname": "app/web"}, {"appname": "app", "labels": {"team": "b"}}):
        assert [w async for w in client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(**nothing))] == []
    on_node = await client.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename="n0"))
    assert {w.id for w in on_node.workloads} == {w.id for w in listed if w.nodename == "n0"}
    assert len((await client.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename="no"))).workloads) == 0
    ids = sorted(made)
    assert [w.id for w in (await client.unary(rpc.GetWorkloads, pb.WorkloadIDs(IDs=ids))).workloads] == ids
    assert len((await client.unary(rpc.GetWorkloads, pb.WorkloadIDs())).workloads) == 0
    with pytest.raises(RemoteError) as caught:
        await client.unary(rpc.GetWorkloads, pb.WorkloadIDs(IDs=[*ids, "ghost"]))
    assert caught.value.code == 1052
    with pytest.raises(RemoteError) as caught:
        await client.unary(rpc.GetWorkload, pb.WorkloadID(id="../pod/pod"))
    assert caught.value.code == 1051


async def act(cluster: Any, verb: str, ids: list[str], *, force: bool = False) -> list[pb.ControlWorkloadMessage]:
    request = pb.ControlWorkloadOptions(IDs=ids, type=verb, force=force)
    return [message async for message in cluster.client.stream(rpc.ControlWorkload, request)]


async def test_control(cluster: Any) -> None:
    await ready(cluster, 1)
    ids = [message.id for message in await cluster.deploy(3)]
    node = cluster.fakes.node("n0")
    assert [message.error for message in await act(cluster, "stop", ids)] == ["", "", ""]
    assert not any(node.containers[id].running for id in ids)
    assert {message.id for message in await act(cluster, "start", ids)} == set(ids)
    assert all(node.containers[id].running for id in ids)
    assert [message.error for message in await act(cluster, "restart", [*ids, ids[0]])] == ["", "", ""]
    outcome = {message.id: message.error for message in await act(cluster, "stop", [ids[0], "ghost"])}
    assert outcome[ids[0]] == ""
    assert "ghost" in outcome["ghost"]
    for verb in ("explode", ""):
        refused = await act(cluster, verb, ids)
        assert {message.id for message in refused} == set(ids)
        assert all("unknown control type" in message.error for message in refused)


@pytest.mark.parametrize("method", [rpc.RemoveWorkload, rpc.DissociateWorkload, rpc.ControlWorkload])
async def test_no_ids_is_status_2(cluster: Any, method: Any) -> None:
    request = method.request(**({"type": "start"} if method is rpc.ControlWorkload else {}))
    with pytest.raises(RemoteError, match="no workload IDs given") as caught:
        _ = [message async for message in cluster.client.stream(method, request)]
    assert caught.value.code == 2


async def test_remove_and_dissociate(cluster: Any) -> None:
    await ready(cluster, 1)
    first, second, third = [message.id for message in await cluster.deploy(3)]
    client = cluster.client
    request = pb.RemoveWorkloadOptions(IDs=[first])
    (kept,) = [m async for m in client.stream(rpc.RemoveWorkload, request)]
    assert not kept.success  # it runs, and force was not given
    assert kept.hook
    (gone,) = [m async for m in client.stream(rpc.RemoveWorkload, pb.RemoveWorkloadOptions(IDs=[first], force=True))]
    assert (gone.id, gone.success, gone.hook) == (first, True, "")
    (free,) = [m async for m in client.stream(rpc.DissociateWorkload, pb.DissociateWorkloadOptions(IDs=[second]))]
    assert (free.id, free.error) == (second, "")
    assert second in cluster.fakes.node("n0").containers
    listed = [w.id async for w in client.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions())]
    assert listed == [third]


async def test_capacity_and_plan(cluster: Any) -> None:
    await ready(cluster)
    bags = {"cpumem": orjson.dumps({"cpu-request": 1, "cpu-bind": True, "memory-request": 1 << 30})}
    entrypoint = pb.EntrypointOptions(name="web")
    ask = pb.DeployOptions(podname="pod", entrypoint=entrypoint, resources=bags, deploy_strategy=pb.DeployOptions.DUMMY)
    found = await cluster.client.unary(rpc.CalculateCapacity, ask)
    assert found.total == sum(found.node_capacities.values())
    assert dict(found.node_capacities) == {"n0": 4, "n1": 4}
    ask.deploy_strategy = pb.DeployOptions.AUTO
    with pytest.raises(RemoteError, match="count") as caught:
        await cluster.client.unary(rpc.CalculateCapacity, ask)
    assert caught.value.code == 1041
    ask.count = 100
    with pytest.raises(RemoteError) as caught:
        await cluster.client.unary(rpc.CalculateCapacity, ask)
    assert caught.value.kind == "NoCapacity"
    assert {refusal.nodename for refusal in caught.value.refusals} == {"n0", "n1"}
    ask.MergeFrom(pb.DeployOptions(name="app", image="img"))
    ask.count = 2
    plan = await cluster.client.unary(rpc.Plan, v1.PlanRequest(options=ask))
    assert (len(plan.placements), plan.error, plan.revision > 0) == (2, "", True)


async def test_debug_tells_what_runs(cluster: Any) -> None:
    said = orjson.loads((await cluster.client.unary(rpc.Debug, v1.DebugRequest())).json)
    assert said["core"]["ready"] is True
    assert [call["rpc"] for call in said["calls"]] == ["Debug"]


async def test_metrics_have_the_published_names(cluster: Any) -> None:
    await ready(cluster, 1)
    await cluster.deploy(1)
    metrics = CoreMetrics(cluster.core, "host.name")
    metrics.call_started("GetNode")
    metrics.call_ended("GetNode", 1034, 0.01)
    text = metrics.text().decode()
    for line in (
        'cpu_map{cpuid="0",nodename="n0",podname="pod"} 0.0',
        'cpu_used{nodename="n0",podname="pod"} 0.1',
        'memory_used{nodename="n0",podname="pod"} 1.048576e+06',
        'pod_node_up{hostname="host-name",nodename="n0",podname="pod"} 1.0',
        'core_deploy{hostname="host-name"} 1.0',
        'eru_rpc_total{code="1034",rpc="GetNode"} 1.0',
    ):
        assert line in text, line
