"""Pods and nodes through the wire: what works, what is refused, what can never leak."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eru.model.errors import RemoteError
from eru.model.nodes import NodeResource
from eru.store.contract import Put
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


async def refused(call: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    return caught.value


async def test_pods(cluster: Any) -> None:
    client = cluster.client
    for name in ("b", "a"):
        await client.unary(rpc.AddPod, pb.AddPodOptions(name=name, desc=f"pod {name}"))
    assert (await client.unary(rpc.GetPod, pb.GetPodOptions(name="a"))).desc == "pod a"
    assert [pod.name for pod in (await client.unary(rpc.ListPods, pb.Empty())).pods] == ["a", "b"]
    await client.unary(rpc.RemovePod, pb.RemovePodOptions(name="a"))
    assert [pod.name for pod in (await client.unary(rpc.ListPods, pb.Empty())).pods] == ["b"]


@pytest.mark.parametrize(
    ("name", "number"), [("", 1021), ("a/b", 1021), ("..", 1021), (".", 1021), ("x" * 1_000_000, 1021), ("taken", 1021)]
)
async def test_pod_names_that_are_refused(cluster: Any, name: str, number: int) -> None:
    await cluster.add_pod("taken")
    before = await cluster.stored()
    error = await refused(cluster.client.unary(rpc.AddPod, pb.AddPodOptions(name=name)))
    assert error.code == number
    assert len(str(error)) < 1000
    assert await cluster.stored() == before


async def test_pod_errors_have_their_numbers(cluster: Any) -> None:
    client = cluster.client
    assert (await refused(client.unary(rpc.GetPod, pb.GetPodOptions(name="no")))).code == 1023
    assert (await refused(client.unary(rpc.RemovePod, pb.RemovePodOptions(name="no")))).code == 1022
    await cluster.add_pod()
    await cluster.add_node("n1")
    error = await refused(client.unary(rpc.RemovePod, pb.RemovePodOptions(name="pod")))
    assert error.code == 1022
    assert "pod has nodes" in str(error)


async def test_add_get_list_and_remove_a_node(cluster: Any) -> None:
    client = cluster.client
    await cluster.add_pod()
    added = await cluster.add_node("n1", labels={"zone": "a"})
    assert added.available
    got = await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))
    assert (got.podname, got.available, got.bypass, got.test, dict(got.labels)) == (
        "pod",
        True,
        False,
        True,
        {"zone": "a"},
    )
    capacity = json.loads(got.resource_capacity)["cpumem"]
    assert capacity["cpu"] == 4
    assert set(capacity) == {"cpu", "cpu_map", "memory", "numa", "numa_memory"}
    assert json.loads(got.resource_usage)["cpumem"]["memory"] == 0
    assert (await client.unary(rpc.GetNodeEngineInfo, pb.GetNodeOptions(nodename="n1"))).type == "fake"
    await client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1"))
    assert (await refused(client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1")))).code == 1034
    assert [key for key in await cluster.stored() if "n1" in key] == []
    await cluster.add_node("n1")  # the name is free again, whatever was there before


async def test_resource_json_is_in_the_published_style(cluster: Any) -> None:
    await cluster.add_pod()
    added = await cluster.add_node(
        "n1", endpoint="fake://n1?cpu=2&memory=1G", resources={"cpumem": b'{"memory": "1G"}'}
    )
    assert added.resource_capacity.startswith(
        '{"cpumem":{"cpu":2,"cpu_map":{"0":100,"1":100},"memory":1073741824,"numa":{},"numa_memory":{}}'
    )


async def test_of_many_adds_of_one_name_exactly_one_wins_and_nothing_is_broken(cluster: Any) -> None:
    await cluster.add_pod()
    outcomes = await asyncio.gather(*(cluster.add_node("n1") for _ in range(20)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, pb.Node)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, RemoteError)]
    assert (len(won), len(lost)) == (1, 19)
    assert all(error.code == 1031 and "node already exists" in str(error) for error in lost)
    assert (await cluster.deploy(2))[0].success


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nodename": ""}, "node name is empty"),
        ({"nodename": "../evil"}, "not allowed"),
        ({"podname": ""}, "pod name is empty"),
        ({"podname": "nowhere"}, "does not exist"),
        ({"endpoint": ""}, "invalid node endpoint"),
        ({"endpoint": "gopher://x"}, "gopher"),
        ({"endpoint": "unix:///nowhere/docker.sock"}, "/nowhere/docker.sock"),
        ({"resources": {"cpumem": b'{"cpu": "abc"}'}}, "abc"),
        ({"resources": {"cpumem": b'{"cpu": "-1"}'}}, "-1"),
        ({"ca": "x" * 100_000}, "ca has 100000 characters"),
        ({"labels": {"k": "v" * 1_000_000}}, "labels"),
    ],
)
async def test_nodes_that_cannot_be_added_leave_nothing(cluster: Any, options: dict[str, Any], words: str) -> None:
    await cluster.add_pod()
    before = await cluster.stored()
    settings = {"nodename": "n1", "podname": "pod", "endpoint": "fake://n1", **options}
    error = await refused(cluster.client.unary(rpc.AddNode, pb.AddNodeOptions(**settings)))
    assert error.code == 1031
    assert words in str(error)
    assert await cluster.stored() == before


async def test_wrong_bags_are_dropped_as_clients_expect(cluster: Any) -> None:
    await cluster.add_pod()
    bags = {"cpumem": b"not json", "unknown": b"{}", "list": b"[1]", "null": b"null"}
    assert (await cluster.add_node("n1", resources=bags)).name == "n1"


async def test_listing(cluster: Any) -> None:
    client = cluster.client
    await cluster.add_pod()
    await cluster.add_pod("other")
    for name in ("n3", "n1", "n2"):
        await cluster.add_node(name, labels={"name": name})
    await cluster.add_node("elsewhere", "other")
    await cluster.add_node("dead", test=False)
    await client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n2", bypass=pb.TRUE))

    async def names(**options: Any) -> list[str]:
        request = pb.ListNodesOptions(**{"skip_info": True, **options})
        return [node.name async for node in client.stream(rpc.ListPodNodes, request)]

    assert await names(podname="pod") == ["n1", "n3"]
    assert await names(podname="pod", all=True) == ["dead", "n1", "n2", "n3"]
    assert await names() == ["elsewhere", "n1", "n3"]
    assert await names(podname="pod", labels={"name": "n3"}) == ["n3"]
    assert await names(podname="unknown") == []


async def test_listing_with_info_is_bounded_and_tells_who_did_not_answer(cluster: Any) -> None:
    client = cluster.client
    await cluster.add_pod()
    await cluster.add_node("n1")
    await cluster.add_node("n2")
    await client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n2", endpoint="unix:///nowhere/docker.sock"))
    request = pb.ListNodesOptions(podname="pod", all=True, timeout_in_second=2)
    nodes = [node async for node in client.stream(rpc.ListPodNodes, request)]
    assert json.loads(nodes[0].info)["NCPU"] == 4
    assert list(json.loads(nodes[0].info)) == ["ID", "MemTotal", "NCPU", "Resources", "StorageTotal", "Type"]
    assert not nodes[1].available
    assert "/nowhere/docker.sock" in nodes[1].info


async def test_set_node(cluster: Any) -> None:
    client = cluster.client
    await cluster.add_pod()
    await cluster.add_node("n1", labels={"a": "1"})

    async def change(**options: Any) -> pb.Node:
        return await client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n1", **options))

    assert (await change(bypass=pb.TRUE)).bypass
    assert (await change(labels={"b": "2"})).bypass  # kept
    assert dict((await change()).labels) == {"b": "2"}
    assert not (await change(bypass=pb.FALSE)).bypass
    bigger = await change(resources={"cpumem": b'{"memory": 1048576}', "storage": b"{}"}, delta=True)
    first = json.loads(bigger.resource_capacity)["cpumem"]["memory"]
    assert json.loads((await change(resources={"cpumem": b"{}"})).resource_capacity)["cpumem"]["memory"] == first
    smaller = await change(resources={"cpumem": b'{"memory": -1048576}'}, delta=True)
    assert json.loads(smaller.resource_capacity)["cpumem"]["memory"] == first - 1048576
    assert (await refused(client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="no")))).code == 1035
    assert (await refused(change(bypass=7))).code == 1035  # type: ignore[arg-type]


async def test_parallel_increments_all_count(cluster: Any) -> None:
    await cluster.add_pod()
    before = json.loads((await cluster.add_node("n1")).resource_capacity)["cpumem"]["memory"]
    request = pb.SetNodeOptions(nodename="n1", resources={"cpumem": b'{"memory": 1000}'}, delta=True)
    await asyncio.gather(*(cluster.client.unary(rpc.SetNode, request) for _ in range(10)))
    after = await cluster.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))
    assert json.loads(after.resource_capacity)["cpumem"]["memory"] == before + 10_000


async def test_certificates_are_kept_apart_and_never_returned(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", ca="CA-SECRET", cert="CERT", key="KEY-SECRET")
    await cluster.client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n1", cert="NEW"))
    stored = await cluster.stored()
    tls = json.loads(stored[cluster.keys.node_tls("n1")])
    assert (tls["ca"], tls["cert"], tls["key"]) == ("CA-SECRET", "NEW", "KEY-SECRET")
    got = await cluster.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))
    assert b"SECRET" not in got.SerializeToString()
    await cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1"))
    assert b"SECRET" not in b"".join((await cluster.stored()).values())


async def test_a_node_with_workloads_stays(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    assert (await cluster.deploy(1))[0].success
    error = await refused(cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1")))
    assert error.code == 1032
    assert "node not empty" in str(error)


async def test_a_deploy_and_a_removal_of_its_node_cannot_both_win(cluster: Any) -> None:
    await cluster.add_pod()
    for _ in range(10):
        await cluster.add_node("n1")
        removal = cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1"))
        made, gone = await asyncio.gather(cluster.deploy(1), removal, return_exceptions=True)
        assert isinstance(made, list)
        stored = await cluster.stored()
        if isinstance(gone, RemoteError):
            assert made[0].success
            ids = [made[0].id]
            request = pb.RemoveWorkloadOptions(IDs=ids, force=True)
            assert [m.success async for m in cluster.client.stream(rpc.RemoveWorkload, request)] == [True]
            await cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1"))
        else:
            assert not made[0].success
            assert [key for key in stored if "/n1" in key] == []


async def test_node_resource_tells_and_repairs_drift(cluster: Any) -> None:
    client, keys = cluster.client, cluster.keys
    await cluster.add_pod()
    await cluster.add_node("n1")
    made = await cluster.deploy(3)
    assert all(message.success for message in made)

    async def look(fix: bool = False) -> pb.NodeResource:
        opts = pb.GetNodeOptions(nodename="n1")
        return await client.unary(rpc.GetNodeResource, pb.GetNodeResourceOptions(opts=opts, fix=fix))

    assert list((await look()).diffs) == []
    item = await cluster.store.get(keys.resource("n1"))
    record = NodeResource.decode(item.value)
    record.usage["cpumem"]["memory"] += 12345
    await cluster.store.txn([], [Put(keys.resource("n1"), record.encode())])
    assert "memory" in " ".join((await look()).diffs)
    assert list((await look(fix=True)).diffs) == []
    assert list((await look()).diffs) == []
    cluster.fakes.node("n1").containers.pop(made[0].id)
    assert made[0].id in " ".join((await look()).diffs)
    rows = [row async for row in client.stream(rpc.GetPodResource, pb.GetPodOptions(name="pod"))]
    assert [row.name for row in rows] == ["n1"]


async def test_node_resource_without_its_message(cluster: Any) -> None:
    error = await refused(cluster.client.unary(rpc.GetNodeResource, pb.GetNodeResourceOptions()))
    assert (error.code, str(error)) == (1037, "node name is empty")
