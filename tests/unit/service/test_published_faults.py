"""Requests that crash, hang or mislead the published core, over the wire."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


def bag(**numbers: Any) -> dict[str, bytes]:
    return {"cpumem": orjson.dumps(numbers)}


async def test_an_empty_list_of_statuses(cluster: Any) -> None:
    answer = await cluster.client.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions())
    assert list(answer.status) == []


async def test_a_message_inside_a_request_is_missing(cluster: Any) -> None:
    with pytest.raises(RemoteError, match="node name is empty") as caught:
        await cluster.client.unary(rpc.GetNodeResource, pb.GetNodeResourceOptions())
    assert caught.value.code == 1037

    async def chunks() -> Any:  # neither mode nor owner
        yield pb.FileOptions(ids=["nobody"], dst="/a", size=1, chunk=b"x")

    answers = [answer async for answer in cluster.client.stream(rpc.SendLargeFile, chunks())]
    assert ["does not exist" in answer.error for answer in answers] == [True]


@pytest.mark.parametrize("cpu", ["abc", "-1", "0", -1, 1e308, "0:100:3", "0:", [1], {"a": 1}])
async def test_cpus_of_a_node_that_are_none(cluster: Any, cpu: Any) -> None:
    await cluster.add_pod()
    with pytest.raises(RemoteError, match="cpu") as caught:
        await cluster.add_node("n1", resources=bag(cpu=cpu))
    assert caught.value.code == 1031
    await cluster.add_node("n1", resources=bag(cpu=2))
    with pytest.raises(RemoteError, match="cpu"):
        await cluster.client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n1", resources=bag(cpu=cpu)))


@pytest.mark.parametrize("cores", [0.001, 0.009, 1e308, "NaN", "Infinity", "1e400", -1])
async def test_bound_cores_that_no_plan_can_give(cluster: Any, cores: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    resources = {"cpumem": orjson.dumps({"cpu-request": cores, "cpu-bind": True})}
    with pytest.raises(RemoteError, match="cpu-request") as caught:
        await cluster.client.unary(
            rpc.CalculateCapacity,
            pb.DeployOptions(
                name="app", podname="pod", entrypoint=pb.EntrypointOptions(name="web"), count=1, resources=resources
            ),
        )
    assert caught.value.code == 1041


async def test_a_refused_node_takes_nothing_from_another_at_its_address(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", endpoint="fake://same")
    with pytest.raises(RemoteError):
        await cluster.add_node("n2", podname="nowhere", endpoint="fake://same")
    with pytest.raises(RemoteError):
        await cluster.add_node("n1", endpoint="fake://same")
    assert [message.success for message in await cluster.deploy()] == [True]


async def test_a_forced_hook_that_fails_without_a_word_is_told(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    hook = pb.HookOptions(after_start=["false"], force=True)
    request = pb.DeployOptions(
        name="app", podname="pod", image="img", count=1, entrypoint=pb.EntrypointOptions(name="web", hook=hook)
    )
    [message] = [message async for message in cluster.client.stream(rpc.CreateWorkload, request)]
    assert not message.success
    assert "exit code 1" in message.error


async def test_images_are_listed_without_a_filter(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    caching = cluster.client.stream(rpc.CacheImage, pb.CacheImageOptions(podname="pod", images=["one", "two"]))
    assert [message.success async for message in caching] == [True, True]
    [message] = [message async for message in cluster.client.stream(rpc.ListImage, pb.ListImageOptions(podname="pod"))]
    assert len(message.images) == 2


async def test_a_workload_whose_container_vanished_can_be_removed(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    [made] = await cluster.deploy()
    node = cluster.fakes.node("n1")
    node.remove(node.get(made.id), 0.0)
    request = pb.RemoveWorkloadOptions(IDs=[made.id])
    [gone] = [message async for message in cluster.client.stream(rpc.RemoveWorkload, request)]
    assert (gone.id, gone.success, gone.hook) == (made.id, True, "")
    usage = orjson.loads((await cluster.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))).resource_usage)
    assert (usage["cpumem"]["cpu"], usage["cpumem"]["memory"]) == (0, 0)


@pytest.mark.parametrize(("id", "words"), [("", "workload ID is empty"), ("nobody", "does not exist")])
async def test_an_exec_of_nothing_says_first_that_there_is_no_workload(cluster: Any, id: str, words: str) -> None:
    async def first() -> Any:
        yield pb.ExecuteWorkloadOptions(workload_id=id)

    [message] = [message async for message in cluster.client.stream(rpc.ExecuteWorkload, first())]
    assert words in message.data.decode()
