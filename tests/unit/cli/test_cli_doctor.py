"""`eru doctor`: each trouble is found, and comes with its cure."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from eru.cli.cluster.checks import certificates
from eru.cli.cluster.checks.certificates import expires
from eru.cli.cluster.checks.finding import Finding, within
from eru.cli.settings import Settings
from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
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
        "ListWorkloads": [],
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
            {
                "GetNodeStatus": Fails("no such key"),
                "ListPodNodes": [pb.Node(name="n1", podname="p", endpoint="tcp://x:1", info="it hangs")],
            },
            "n1 of pod p: no heartbeat, and it hangs",
            "check Docker on n1 and the address tcp://x:1",
        ),
        (
            {"GetNodeResource": pb.NodeResource(name="n1", diffs=["cpu 1 != 2", "x"])},
            "cpu 1 != 2 (and 1 more)",
            "--fix",
        ),
        (
            {"GetNodeResource": pb.NodeResource(diffs=["workload w1 inspect failed: No such container: w1"])},
            "workload w1 is recorded and has no container",
            "workload remove --force w1",
        ),
        (
            {"GetNodeResource": pb.NodeResource(diffs=["workload w1 inspect failed: no answer within 10 s"])},
            "workload w1 inspect failed: no answer",
            "check Docker on n1",
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


# -- clocks, certificates, other cores, workloads


def dump(**more: Any) -> Callable[[Iterator[Any]], Iterator[v1.DebugReply]]:
    """What a core says of itself; `ahead`: seconds its clock is ahead."""

    def answer(_: Iterator[Any]) -> Iterator[v1.DebugReply]:
        about = {"id": "x", "ready": True, "draining": False, "time": time.time() + more.get("ahead", 0.0)}
        yield v1.DebugReply(json=json.dumps({"core": about | more.get("core", {}), "intents": more.get("intents", [])}))

    return answer


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        (dump(), 0, ""),
        (dump(ahead=10.0), 0, "is 10s ahead of the one here"),
        (dump(ahead=-400.0), 1, "is 400s behind the one here"),
        (dump(core={"ready": False}), 1, "is not ready"),
        (dump(core={"draining": True}), 0, "is going away"),
        (
            dump(intents=[{"verb": "create", "workload": "w", "node": "n7", "seconds": 4000}]),
            0,
            "1 operation of core 127",
        ),
    ],
)
def test_what_a_core_says_of_itself(eru, script, well, docker, told, code, words):
    script.answers["Debug"] = told
    done = eru("doctor", "--docker", docker)
    assert (done.code, words in done.out) == (code, True), done.out
    assert ("cure" in done.out) == bool(words)


def test_a_core_that_is_announced_and_silent(eru, script, well, docker):
    script.answers["WatchServiceStatus"] = [pb.ServiceStatus(addresses=[script.address, "127.0.0.1:1"])]
    done = eru("doctor", "--docker", docker)
    assert done.code == 0
    assert "core 127.0.0.1:1 is announced and does not answer" in done.out
    assert f"core 1 at {script.address} answers" in done.out


def test_the_clock_of_an_engine(eru, script, well, docker):
    running = pb.Workload(id="a" * 64, nodename="n1", status=pb.WorkloadStatus(id="a" * 64, running=True, healthy=True))
    script.answers["ListNodeWorkloads"] = pb.Workloads(workloads=[running])
    script.answers["Stats"] = [v1.Stat(id="a" * 64, time_ns=time.time_ns() - 3600 * 10**9)]
    done = eru("doctor", "--docker", docker)
    assert done.code == 1
    assert "the clock of node n1 is 3600s behind" in done.out


def test_how_long_a_node_has_been_silent(eru, script, well, docker):
    script.answers["GetNodeStatus"] = Fails("no such key")
    script.answers["Events"] = [v1.Event(kind="node-down", nodename="n1", time_ns=time.time_ns() - 7500 * 10**9)]
    assert "no heartbeat for 2h5m" in eru("doctor", "--docker", docker).out


def test_workloads_are_counted(eru, script, well, docker):
    ids = [letter * 64 for letter in "abc"]
    reports = [{"running": True, "healthy": True}, {"running": True}, {}]
    script.answers["ListWorkloads"] = [
        pb.Workload(id=id_, status=pb.WorkloadStatus(id=id_, **said)) for id_, said in zip(ids, reports, strict=True)
    ]
    done = eru("doctor", "--docker", docker)
    assert "3 workloads: 1 healthy, 1 stopped, 1 running but not healthy" in done.out


def test_many_nodes_that_are_well_are_one_line(eru, script, well, docker):
    nodes = [pb.Node(name=f"n{number:03}", podname="p", available=True, test=True) for number in range(50)]
    script.answers["ListPodNodes"] = nodes
    assert "50 other nodes are up" in eru("doctor", "--docker", docker).out


@pytest.mark.parametrize(("days", "state"), [(400, "ok"), (20, "warn"), (1, "bad"), (-5, "bad")])
def test_certificates_say_how_long_they_are_good(tmp_path, days, state):
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    made = trustme.CA().issue_cert("core", not_after=ends)
    path = tmp_path / "cert.pem"
    path.write_bytes(made.cert_chain_pems[0].bytes())
    assert abs(expires(ssl.PEM_cert_to_DER_cert(path.read_text())) - ends.timestamp()) < 2
    [found] = asyncio.run(certificates.own(Settings(tls_cert=str(path)), real_world()))
    assert found.state == state
    assert bool(found.cure) == (state != "ok")


def test_a_certificate_that_is_none(tmp_path):
    path = tmp_path / "cert.pem"
    for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path.write_text(text)
        [found] = asyncio.run(certificates.own(Settings(tls_ca=str(path)), real_world()))
        assert "no certificate that can be read" in found.text


async def test_a_server_shows_its_certificate(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=10))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        [found] = await certificates.shown_by("127.0.0.1", port, "it", real_world(), "renew")
        assert (found.state, found.text) == ("warn", "it is good for 10 days")
    assert await certificates.shown_by("127.0.0.1", 1, "it", real_world(), "renew") == []


async def test_a_check_that_hangs_is_told_in_time():
    async def hangs() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    [found] = await within(0.05, "the moon", hangs())
    assert (found.state, found.text) == ("bad", "the moon was not checked within 0.05s")
