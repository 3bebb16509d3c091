"""Heartbeats, workload statuses and their streams through the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from eru.core.service import shut_down
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


async def until(true: Any, wait_s: float = 60.0) -> None:
    async with asyncio.timeout(wait_s):
        while not true():  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.01)


class Reader:
    """Collects a stream in the background."""

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self.got: list[Any] = []
        self._messages = messages
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for message in self._messages:
            self.got.append(message)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def beat(cluster: Any, ttl: int, name: str = "n1") -> None:
    await cluster.client.unary(rpc.SetNodeStatus, pb.SetNodeStatusOptions(nodename=name, ttl=ttl))


async def watching(cluster: Any, hub: Any, method: Any, request: Any) -> Reader:
    reader = Reader(cluster.client.stream(method, request))
    await until(lambda: hub.followed)
    return reader


async def report(cluster: Any, *statuses: pb.WorkloadStatus) -> Any:
    return await cluster.client.unary(rpc.SetWorkloadsStatus, pb.SetWorkloadsStatusOptions(status=statuses))


async def test_heartbeats_make_a_node_available_renew_silently_and_end(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", test=False)
    client = cluster.client
    reader = await watching(cluster, cluster.core.fleet.node_events, rpc.NodeStatusStream, pb.Empty())
    with pytest.raises(RemoteError) as caught:
        await client.unary(rpc.GetNodeStatus, pb.GetNodeStatusOptions(nodename="n1"))
    assert caught.value.code == 1038
    await beat(cluster, 60)
    await until(lambda: len(reader.got) == 1)
    leases = cluster.store.revision
    for _ in range(5):
        await beat(cluster, 60)
    assert cluster.store.revision == leases  # nothing was written
    status = await client.unary(rpc.GetNodeStatus, pb.GetNodeStatusOptions(nodename="n1"))
    assert (status.nodename, status.podname, status.alive) == ("n1", "pod", True)
    assert (await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))).available
    await beat(cluster, -1)
    await until(lambda: len(reader.got) == 2)
    assert [(message.nodename, message.podname, message.alive) for message in reader.got] == [
        ("n1", "pod", True),
        ("n1", "pod", False),
    ]
    assert not (await client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))).available
    await reader.stop()


@pytest.mark.parametrize("alive", [True, False])
async def test_the_end_of_a_node_is_told_once(cluster: Any, alive: bool) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", test=False)
    await cluster.add_node("n2")
    if alive:
        await beat(cluster, 60)
        await until(lambda: cluster.core.fleet.node("n1").heartbeat)
    reader = await watching(cluster, cluster.core.fleet.node_events, rpc.NodeStatusStream, pb.Empty())
    for name in ("n1", "n2"):
        await cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename=name))
    await until(lambda: len(reader.got) >= 2)
    assert [(message.nodename, message.podname, message.alive) for message in reader.got] == [
        ("n1", "pod", False),
        ("n2", "pod", False),
    ]
    await reader.stop()


async def test_a_heartbeat_runs_out(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", test=False)
    reader = await watching(cluster, cluster.core.fleet.node_events, rpc.NodeStatusStream, pb.Empty())
    await beat(cluster, 1)
    await until(lambda: [message.alive for message in reader.got] == [True, False])
    await beat(cluster, 60)
    await until(lambda: [message.alive for message in reader.got] == [True, False, True])
    await reader.stop()


@pytest.mark.parametrize("ttl", [0, 10**12])
async def test_bad_ttl(cluster: Any, ttl: int) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    with pytest.raises(RemoteError, match="invalid TTL") as caught:
        await beat(cluster, ttl)
    assert caught.value.code == 1036


async def test_a_heartbeat_of_a_node_that_does_not_exist(cluster: Any) -> None:
    for ttl in (60, -1):
        with pytest.raises(RemoteError, match="does not exist"):
            await beat(cluster, ttl, "ghost")
    assert await cluster.stored() == {}


async def test_a_late_heartbeat_does_not_bring_a_removed_node_back(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", test=False)
    await beat(cluster, 60)
    await cluster.client.unary(rpc.RemoveNode, pb.RemoveNodeOptions(nodename="n1"))
    with pytest.raises(RemoteError):
        await beat(cluster, 60)
    await cluster.add_node("n1", test=False)
    assert not (await cluster.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))).available
    await beat(cluster, 60)
    assert (await cluster.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))).available


async def running(cluster: Any, count: int = 1, **options: Any) -> list[str]:
    await cluster.add_pod()
    await cluster.add_node("n1")
    made = await cluster.deploy(count, **options)
    assert all(message.success for message in made)
    return [message.id for message in made]


async def test_report_as_published_agents_do(cluster: Any) -> None:
    """No entrypoint, another host name as node, ttl 0."""
    (id,) = await running(cluster)
    status = pb.WorkloadStatus(
        id=id, running=True, healthy=True, networks={"host": "10.0.0.1"}, extension=b"{}", appname="app", nodename="n1"
    )
    echoed = await report(cluster, status)
    assert echoed.status[0] == status
    got = await cluster.client.unary(rpc.GetWorkload, pb.WorkloadID(id=id))
    assert got.status.running
    assert got.status.healthy
    assert dict(got.status.networks) == {"host": "10.0.0.1"}
    assert (got.status.ttl, got.status.entrypoint) == (0, "")
    key = cluster.keys.status("app", "web", "n1", id)
    assert key in await cluster.stored()


async def test_publish_follows_from_status_and_label(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1")
    request = pb.DeployOptions(
        name="app",
        podname="pod",
        image="img",
        count=1,
        entrypoint=pb.EntrypointOptions(name="web", publish=["80", "8080"]),
    )
    (made,) = [message async for message in cluster.client.stream(rpc.CreateWorkload, request)]
    got = await cluster.client.unary(rpc.GetWorkload, pb.WorkloadID(id=made.id))
    assert dict(got.publish) == {}
    await report(cluster, pb.WorkloadStatus(id=made.id, running=True, networks={"net": "10.0.0.1", "down": ""}))
    got = await cluster.client.unary(rpc.GetWorkload, pb.WorkloadID(id=made.id))
    assert dict(got.publish) == {"net": "10.0.0.1:80,10.0.0.1:8080"}


async def test_nothing_is_written_for_nothing_new(cluster: Any) -> None:
    ids = await running(cluster, 3)
    reader = await watching(cluster, cluster.core.fanout, rpc.WorkloadStatusStream, pb.WorkloadStatusStreamOptions())
    statuses = [pb.WorkloadStatus(id=id, running=True) for id in ids]
    await report(cluster, *statuses)
    await until(lambda: len(reader.got) == 3)
    revision = cluster.store.revision
    await report(cluster, *statuses)
    assert cluster.store.revision == revision
    await report(cluster, *[pb.WorkloadStatus(id=id, running=id != ids[0]) for id in ids])
    await until(lambda: len(reader.got) == 4)
    assert reader.got[3].id == ids[0]
    assert not reader.got[3].status.running
    assert reader.got[3].workload.id == ids[0]
    await reader.stop()


async def test_empty_and_unknown(cluster: Any) -> None:
    """An empty list is fine; a report of a removed workload is refused, the others count."""
    ids = await running(cluster, 2)
    assert list((await report(cluster)).status) == []
    request = pb.RemoveWorkloadOptions(IDs=ids[:1], force=True)
    assert [message.success async for message in cluster.client.stream(rpc.RemoveWorkload, request)] == [True]
    with pytest.raises(RemoteError, match=ids[0]) as caught:
        await report(cluster, *[pb.WorkloadStatus(id=id, running=True) for id in ids])
    assert caught.value.code == 1056
    assert [key for key in await cluster.stored() if "/status/" in key] == [
        cluster.keys.status("app", "web", "n1", ids[1])
    ]
    answer = await cluster.client.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=ids[1:]))
    assert answer.status[0].running
    with pytest.raises(RemoteError) as caught:
        await cluster.client.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=ids))
    assert caught.value.code == 1055


async def test_never_reported_is_an_empty_message(cluster: Any) -> None:
    (id,) = await running(cluster)
    answer = await cluster.client.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=[id]))
    assert answer.status[0] == pb.WorkloadStatus()


async def test_a_status_with_a_ttl_vanishes_and_its_renewal_is_silent(cluster: Any) -> None:
    (id,) = await running(cluster)
    reader = await watching(cluster, cluster.core.fanout, rpc.WorkloadStatusStream, pb.WorkloadStatusStreamOptions())
    now = asyncio.get_running_loop().time
    for _ in range(20):
        earlier, begun = len(reader.got), now()
        await report(cluster, pb.WorkloadStatus(id=id, running=True, ttl=1))
        await until(lambda: len(reader.got) > earlier)  # noqa: B023 - awaited in this round
        await asyncio.sleep(0.6)
        renewing = now()
        await report(cluster, pb.WorkloadStatus(id=id, running=True, ttl=1))
        in_time = now() - begun < 0.95
        await asyncio.sleep(0.6)
        told = [message.delete for message in reader.got[earlier:]]
        if in_time and now() - renewing < 0.95:  # else the machine was too slow to show anything
            break
        await until(lambda: reader.got[-1].delete)
    assert told == [False]
    await until(lambda: len(reader.got) > earlier + 1)
    last = reader.got[-1]
    assert (last.delete, last.workload.id, last.status.running) == (True, id, False)
    await reader.stop()


async def test_stream_filters(cluster: Any) -> None:
    (id,) = await running(cluster, labels={"team": "a"})
    hub = cluster.core.fanout
    requests = {
        "app": pb.WorkloadStatusStreamOptions(appname="app"),
        "deep": pb.WorkloadStatusStreamOptions(appname="app", entrypoint="web", nodename="n1"),
        "node without app": pb.WorkloadStatusStreamOptions(nodename="elsewhere"),
        "label": pb.WorkloadStatusStreamOptions(labels={"team": "a"}),
        "other app": pb.WorkloadStatusStreamOptions(appname="ap"),
        "other node": pb.WorkloadStatusStreamOptions(appname="app", entrypoint="web", nodename="n2"),
        "other label": pb.WorkloadStatusStreamOptions(labels={"team": "b"}),
    }
    readers = {}
    for count, (name, request) in enumerate(requests.items(), start=1):
        readers[name] = Reader(cluster.client.stream(rpc.WorkloadStatusStream, request))
        await until(lambda count=count: hub.readers == count)
    await report(cluster, pb.WorkloadStatus(id=id, running=True))
    await until(lambda: sum(len(reader.got) for reader in readers.values()) == 4)
    await asyncio.sleep(0.05)
    assert [name for name, reader in readers.items() if reader.got] == ["app", "deep", "node without app", "label"]
    for reader in readers.values():
        await reader.stop()


async def test_a_removed_workload_is_a_delete_with_a_reason(cluster: Any) -> None:
    (id,) = await running(cluster)
    await report(cluster, pb.WorkloadStatus(id=id, running=True))
    reader = await watching(cluster, cluster.core.fanout, rpc.WorkloadStatusStream, pb.WorkloadStatusStreamOptions())
    request = pb.RemoveWorkloadOptions(IDs=[id], force=True)
    assert [message.success async for message in cluster.client.stream(rpc.RemoveWorkload, request)] == [True]
    await until(lambda: len(reader.got) == 1)
    assert (reader.got[0].id, reader.got[0].delete) == (id, True)
    assert "does not exist" in reader.got[0].error
    await reader.stop()


async def test_a_dead_node_takes_its_workloads_down_and_keeps_the_rest_of_their_status(cluster: Any) -> None:
    await cluster.add_pod()
    await cluster.add_node("n1", test=False)
    await beat(cluster, 60)
    (made,) = await cluster.deploy(1)
    await report(cluster, pb.WorkloadStatus(id=made.id, running=True, healthy=True, networks={"a": "1.2.3.4"}))
    await beat(cluster, -1)

    async def down() -> bool:
        answer = await cluster.client.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=[made.id]))
        status = answer.status[0]
        return not status.running and not status.healthy and dict(status.networks) == {"a": "1.2.3.4"}

    async with asyncio.timeout(60):
        while not await down():  # noqa: ASYNC110 - looked at from outside
            await asyncio.sleep(0.05)


async def test_workloads_down_by_hand(cluster: Any) -> None:
    (id,) = await running(cluster)
    await report(cluster, pb.WorkloadStatus(id=id, running=True, healthy=True))
    await cluster.client.unary(rpc.SetNode, pb.SetNodeOptions(nodename="n1", workloads_down=True))
    answer = await cluster.client.unary(rpc.GetWorkloadsStatus, pb.WorkloadIDs(IDs=[id]))
    assert not answer.status[0].running


async def test_core_list_comes_at_once_then_on_change(cluster: Any) -> None:
    often = cluster.core.settings
    cluster.core.settings = msgspec.structs.replace(often, push_interval_s=3600.0)
    first = Reader(cluster.client.stream(rpc.WatchServiceStatus, pb.Empty()))
    await until(lambda: len(first.got) >= 1)
    await first.stop()
    cluster.core.settings = often
    reader = Reader(cluster.client.stream(rpc.WatchServiceStatus, pb.Empty()))
    await until(lambda: len(reader.got) >= 1)
    assert list(reader.got[0].addresses) == ["127.0.0.1:1"]
    assert reader.got[0].interval_in_second >= 1
    await until(lambda: len(reader.got) >= 3)
    await reader.stop()


async def test_a_core_that_goes_away_takes_itself_off_the_list_and_ends_streams_well(cluster: Any) -> None:
    reader = Reader(cluster.client.stream(rpc.WatchServiceStatus, pb.Empty()))
    await until(lambda: len(reader.got) >= 1)
    identity = cluster.core.session.id
    await shut_down(cluster.core, cluster.server, 0.2)
    await asyncio.wait_for(reader.task, 60)  # ended without an error
    assert cluster.core.fleet.core_addresses() == []
    assert cluster.core.session.id == identity  # what still ran was not cut off from the store


async def test_info_is_stable(cluster: Any) -> None:
    first = await cluster.client.unary(rpc.Info, pb.Empty())
    assert first.identifier == cluster.core.settings.identifier
    assert first.version
    assert "/" in first.os_arch
    assert await cluster.client.unary(rpc.Info, pb.Empty()) == first
