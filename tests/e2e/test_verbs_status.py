"""Status: the death of a node marks its workloads down, its return is heard, and nothing is told twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from eru.wire import core_pb2 as pb
from support.verbs import APP, Verbs, options, until, verbs_core

pytestmark = pytest.mark.docker
MORTAL = "mortal"


@pytest.fixture
def verbs(docker_endpoint: str, tmp_path: Path) -> Iterator[Verbs]:
    with verbs_core(tmp_path, docker_endpoint) as verbs:
        yield verbs


class Heard:
    """What a stream said so far."""

    def __init__(self, call: grpc.Call) -> None:
        self.messages: list[object] = []
        self.call = call
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError:
            return

    def stop(self) -> list[object]:
        self.call.cancel()
        self._thread.join(60)
        return self.messages


def beat(verbs: Verbs, ttl: int) -> None:
    verbs.core.SetNodeStatus(pb.SetNodeStatusOptions(nodename=MORTAL, ttl=ttl))


def status(verbs: Verbs, *ids: str) -> list[tuple[bool, bool]]:
    found = verbs.core.GetWorkloadsStatus(pb.WorkloadIDs(IDs=ids)).status
    return [(each.running, each.healthy) for each in found]


def test_a_dead_node_and_its_return(verbs: Verbs) -> None:
    verbs.add_node(MORTAL, test=False)
    wanted = options(count=2, node_filter=pb.NodeFilter(excludes=["box"]))
    [refused] = verbs.core.CreateWorkload(wanted)
    assert refused.error, "a node without a heartbeat must not be chosen"
    beat(verbs, 60)
    made = list(verbs.core.CreateWorkload(wanted))
    assert all(message.success for message in made), made
    [reported, silent] = [message.id for message in made]
    workloads = Heard(verbs.core.WorkloadStatusStream(pb.WorkloadStatusStreamOptions(appname=APP)))
    nodes = Heard(verbs.core.NodeStatusStream(pb.Empty()))
    up = pb.WorkloadStatus(id=reported, running=True, healthy=True, networks={"none": "192.0.2.1"}, extension=b"x")

    def report() -> bool:
        """Until the streams are known to be open."""
        verbs.core.SetWorkloadsStatus(pb.SetWorkloadsStatusOptions(status=[up]))
        return bool(workloads.messages)

    until(report, "the first status")
    beat(verbs, 2)
    until(lambda: status(verbs, reported) == [(False, False)], "the workloads marked down")
    until(lambda: {m.id for m in workloads.messages if not m.status.running} == {reported, silent}, "both being told")
    [down] = [m for m in workloads.messages if m.id == reported and not m.status.running]
    assert (dict(down.status.networks), down.status.extension) == ({"none": "192.0.2.1"}, b"x")
    assert not verbs.core.GetNode(pb.GetNodeOptions(nodename=MORTAL)).available
    beat(verbs, 60)
    assert verbs.core.GetNode(pb.GetNodeOptions(nodename=MORTAL)).available
    verbs.core.SetWorkloadsStatus(pb.SetWorkloadsStatusOptions(status=[up]))
    assert status(verbs, reported) == [(True, True)]
    until(lambda: [m.alive for m in nodes.messages][-2:] == [False, True], "the node's death and return")
    beat(verbs, 60)  # a renewal is silent
    verbs.remove_all()
    until(lambda: sum(m.delete for m in workloads.messages) == 2, "the end of both")
    workloads.stop()
    told = [m.alive for m in nodes.stop()]
    assert told[-2:] == [False, True]
