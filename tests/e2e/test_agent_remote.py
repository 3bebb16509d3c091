"""The agent beside a Docker that is reached over TLS: all it does there, and certificates that do not fit."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eru.lib.world import real_world
from eru.model.nodes import NodeTLS
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import connect
from support.agent_node import NODE, POD, AgentProcess, RecordingCore, TcpSink, Workloads, until
from support.core_processes import CoreProcess
from support.docker import ExtraDocker, extra_docker, make_certificates

pytestmark = pytest.mark.docker
LINES = 60_000


@pytest.fixture(scope="module")
def docker(docker_endpoint: str) -> Iterator[ExtraDocker]:
    base = Path(tempfile.mkdtemp(prefix="ar"))
    with extra_docker(base, "bb", Path(docker_endpoint.removeprefix("unix://"))) as docker:
        yield docker


def files(folder: Path, tls: NodeTLS) -> dict[str, str]:
    """The certificates as files, under the keys of agent.yaml."""
    paths = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    for name, path in paths.items():
        path.write_text(getattr(tls, name))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def agent(agent: AgentProcess, sink: TcpSink, docker: ExtraDocker, tmp_path: Path) -> AgentProcess:
    agent.settings["docker"] = {"endpoint": docker.tls_endpoint, "tls": files(tmp_path, docker.tls)}
    agent.forward_to(sink.address)
    return agent


async def test_status_probes_and_every_line(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, docker: ExtraDocker
) -> None:
    agent.start()
    await until(agent.fine, "core and engine")
    workloads = Workloads(docker.unix_endpoint)
    script = f"seq 1 {LINES}; echo oops >&2; sleep 1000"
    probed = {"eru.health.exec": "test -e /proc/1", "eru.health.interval": "1s"}
    id = workloads.run("sh", "-c", script, labels=probed)
    await until(lambda: core.last(id).healthy, "a probe inside over TLS")
    await until(lambda: sink.texts(id)[-1:] == [str(LINES)], "the last line")
    await until(lambda: sink.texts(id, "stderr") == ["oops"], "the line of stderr")
    assert sink.texts(id) == [str(number) for number in range(1, LINES + 1)]

    # Killed, and back: what was printed meanwhile is read from the kept log, over TLS as well.
    again = workloads.run("sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo n $i; i=$((i+1)); done; sleep 2; echo end")
    await until(lambda: sink.texts(again), "first lines")
    await agent.end(signal.SIGKILL)
    agent.start()
    await until(lambda: sink.texts(again)[-1:] == ["end"], "the end after a restart")
    assert set(sink.texts(again)) == {*(f"n {number}" for number in range(2000)), "end"}
    await until(lambda: core.last(again).id and not core.last(again).running, "its end")
    workloads.clean()


async def test_docker_killed_and_back(core: RecordingCore, agent: AgentProcess, docker: ExtraDocker) -> None:
    agent.start()
    await until(agent.fine, "core and engine")
    await asyncio.to_thread(docker.kill)
    await until(lambda: "engine does not answer" in agent.said(), "it is said")
    await asyncio.to_thread(docker.start)
    await until(agent.fine, "everything well again")
    heard = len(core.beats)
    await until(lambda: len(core.beats) > heard, "heartbeats go on")


async def test_certificates_that_do_not_fit(agent: AgentProcess, docker: ExtraDocker, tmp_path: Path) -> None:
    """No heartbeat, and the reason; never a connection without the check."""
    stranger = make_certificates().client
    strange, own = tmp_path / "strange", files(tmp_path, docker.tls)
    strange.mkdir()
    theirs = files(strange, stranger)
    wrong: dict[str, dict[str, Any]] = {
        "certificate verify failed": {"tls": {**own, "ca": theirs["ca"]}},
        "tls": {"tls": {**own, "cert": theirs["cert"], "key": theirs["key"]}},
        "docker.tls": {},
    }
    for word, instead in wrong.items():
        agent.settings["docker"] = {"endpoint": docker.tls_endpoint, **instead}
        agent.log.write_text("")
        agent.start()
        await until(lambda: "engine does not answer" in agent.said(), f"{word} is said")
        assert word in agent.said().lower()
        assert "Traceback" not in agent.said()
        assert not json.loads(await asyncio.to_thread(health, agent))["ok"]
        await agent.end()


async def test_adds_its_node_to_a_core_that_then_reaches_its_docker(
    agent: AgentProcess, docker: ExtraDocker, tmp_path: Path
) -> None:
    core = CoreProcess(tmp_path, "core", {"store": "memory"})
    await asyncio.to_thread(core.start)
    try:
        async with connect([core.address], world=real_world()) as client:
            await client.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
            missing = {**files(tmp_path, docker.tls), "key": str(tmp_path / "absent.pem")}
            agent.settings |= {"core": [core.address], "register": {"podname": POD, "tls": missing}}
            agent.start()
            await until(lambda: "absent.pem" in agent.said(), "the missing file is named")
            await agent.end()
            agent.settings["register"] = {"podname": POD, "tls": files(tmp_path, docker.tls), "labels": {"by": "agent"}}
            agent.start()

            async def available() -> bool:
                nodes = [node async for node in client.stream(rpc.ListPodNodes, pb.ListNodesOptions(podname=POD))]
                return [(node.name, node.available, dict(node.labels)) for node in nodes] == [
                    (NODE, True, {"by": "agent"})
                ]

            await until(available, "a node that lives")
            assert "PRIVATE KEY" not in agent.said()
    finally:
        await agent.end()
        core.close()


def health(agent: AgentProcess) -> bytes:
    """The answer of /healthz, whatever its status."""
    import http.client

    host, _, port = agent.settings["api"]["addr"].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/healthz")
    return connection.getresponse().read()
