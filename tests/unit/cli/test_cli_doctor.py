"""`eru doctor`: each trouble is found, and comes with its cure."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eru.wire import core_pb2 as pb
from support.cli_samples import NODE
from support.scripted_core import Fails


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[str]:
    """The path of a socket that answers pings as Docker does."""
    path = str(tmp_path / "docker.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(1024)
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

    thread = threading.Thread(target=serve)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def well(script) -> None:
    """A cluster without trouble."""
    script.answers |= {
        "Info": pb.CoreInfo(version="1"),
        "ListPods": pb.Pods(pods=[pb.Pod(name="p")]),
        "ListPodNodes": [NODE],
        "GetNodeStatus": pb.NodeStatusStreamMessage(nodename="n1", alive=True),
        "GetNodeResource": pb.NodeResource(name="n1", resource_capacity='{"cpumem":{"cpu":1}}'),
    }


def test_all_is_well(eru, well, docker):
    done = eru("doctor", "--docker", docker)
    assert done.code == 0, done.out
    assert "✗" not in done.out
    assert "0 broken" in done.err


def test_no_core(eru, docker):
    done = eru("doctor", "--docker", docker, "-e", "127.0.0.1:1")
    assert done.code == 1
    assert "✗ core does not answer at 127.0.0.1:1" in done.out
    assert "    cure: eru up" in done.out


@pytest.mark.parametrize(
    ("answers", "told", "cure"),
    [
        ({"Info": Fails("invalid grpc password")}, "invalid grpc password", "--password"),
        ({"ListPods": Fails("no quorum", "StoreUnavailable")}, "cannot read its store: no quorum", "store"),
        ({"GetNodeStatus": Fails("no such key")}, "n1 of pod pod1: no heartbeat", "eru agent"),
        (
            {"GetNodeResource": pb.NodeResource(name="n1", diffs=["cpu 1 != 2", "x"])},
            "cpu 1 != 2 (and 1 more)",
            "--fix",
        ),
        ({"GetNodeResource": Fails("engine away")}, "cannot be checked: engine away", "log of core"),
        (
            {"ListPodNodes": [pb.Node(name="n1", podname="p", endpoint="tcp://x:1", info="refused")]},
            "node n1 of pod p: refused",
            "tcp://x:1",
        ),
    ],
)
def test_troubles_have_cures(eru, script, well, docker, answers, told: str, cure: str):
    script.answers |= answers
    done = eru("doctor", "--docker", docker)
    assert done.code == 1
    lines = done.out.splitlines()
    at = next(number for number, line in enumerate(lines) if told in line)
    assert lines[at].startswith("✗ ")
    assert cure in lines[at + 1]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"ListPods": pb.Pods()}, "no pod yet"),
        ({"ListPodNodes": []}, "no node yet"),
        ({"ListPodNodes": [pb.Node(name="n1", podname="p", bypass=True)]}, "takes no workloads"),
        ({"GetNodeResource": pb.NodeResource(name="n1", resource_capacity="null")}, "has no resources"),
    ],
)
def test_what_is_only_odd_does_not_fail(eru, script, well, docker, answers, told: str):
    script.answers |= answers
    done = eru("doctor", "--docker", docker)
    assert (done.code, f"! {told}" in done.out or told in done.out) == (0, True)
    assert "1 to look at" in done.err


def test_docker_away(eru, well, tmp_path):
    assert "no Docker socket" in eru("doctor", "--docker", str(tmp_path / "none")).out
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    done = eru("doctor", "--docker", str(tmp_path / "dead"))
    assert (done.code, "Connection refused" in done.out) == (1, True)


def test_as_json(eru, well, docker):
    found = json.loads(eru("doctor", "--docker", docker, "-o", "json").out)
    assert {each["state"] for each in found} <= {"ok", "warn"}
