"""The agent beside a real Docker: what core hears of node and workloads."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.agent_node import NODE, POD, AgentProcess, RecordingCore, Workloads, until
from support.docker import free_port

pytestmark = pytest.mark.docker
FOREVER = ("sleep", "1000")


def runs(core: RecordingCore, id: str) -> list[bool]:
    """Whether it ran, as it was told; what changed otherwise (health, addresses) is left out."""
    return [running for running, _ in itertools.groupby(status.running for status in core.of(id))]


def meta(**check: Any) -> dict[str, str]:
    return {"ERU_META": json.dumps({"Publish": None, "HealthCheck": check})}


async def test_heartbeat_ttl_and_both_kinds_of_leaving(core: RecordingCore, agent: AgentProcess) -> None:
    agent.start()
    await until(lambda: len(core.beats) >= 2, "two heartbeats")
    assert set(core.beats) == {(NODE, 3)}
    assert await agent.end(signal.SIGUSR1) == 0
    assert (NODE, -1) not in core.beats, "USR1 must be invisible to core"
    agent.start()
    heard = len(core.beats)
    await until(lambda: len(core.beats) > heard, "a heartbeat after the restart")
    assert await agent.end(signal.SIGTERM) == 0
    assert core.beats[-1] == (NODE, -1)
    assert "agent.pid" not in os.listdir(agent.folder)


async def test_running_flips_with_and_without_health_check(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    agent.start()
    await until(lambda: core.beats, "a heartbeat")
    plain = workloads.run(*FOREVER, labels={"team": "red"})
    checked = workloads.run(*FOREVER, network="host", labels=meta(TCPPorts=["9"]))
    await until(lambda: core.last(plain).healthy, "the plain workload healthy")
    status = core.last(plain)
    assert (status.running, status.appname, status.entrypoint, status.nodename) == (True, "agt", "", NODE)
    assert (dict(status.networks), status.ttl) == ({"none": ""}, 0)
    assert json.loads(status.extension) == {"ERU": "1", "eru.nodename": NODE, "team": "red"}
    await until(lambda: core.last(checked).running, "the checked workload running")
    assert dict(core.last(checked).networks) == {"host": "10.1.2.3"}
    assert not core.last(checked).healthy, "nothing listens on its port"
    for id in (plain, checked):
        workloads.ask("POST", f"/containers/{id}/kill")
    await until(lambda: not core.last(plain).running and not core.last(checked).running, "both stopped")
    workloads.ask("POST", f"/containers/{plain}/start")
    await until(lambda: core.last(plain).running, "running again")
    assert runs(core, plain) == [True, False, True]


async def test_quick_restart_is_seen_as_down_in_between(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    agent.start()
    id = workloads.run(*FOREVER)
    await until(lambda: core.last(id).running, "running")
    workloads.ask("POST", f"/containers/{id}/restart?t=0")
    await until(lambda: runs(core, id) == [True, False, True], "down and up again in order")


async def test_http_and_exec_health_with_thresholds(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        answer = {"line": b"HTTP/1.1 204 No Content\r\n\r\n"}
        stop = threading.Event()
        server.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer["line"])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = str(server.getsockname()[1])
            fast = {"eru.health.interval": "200ms", "eru.health.unhealthy_after": "3"}
            agent.start()
            web = workloads.run(*FOREVER, network="host", labels={**meta(HTTPPort=port, HTTPURL="/ok"), **fast})
            inside = workloads.run(
                *FOREVER, labels={"eru.health.exec": "sh -c 'test -e /tmp/ready'", "eru.health.interval": "200ms"}
            )
            await until(lambda: core.last(web).healthy, "healthy over http")
            answer["line"] = b"HTTP/1.1 503 Busy\r\n\r\n"
            await until(lambda: core.last(web).running and not core.last(web).healthy, "unhealthy over http")
            assert core.last(inside).running
            assert not core.last(inside).healthy
            made = workloads.ask("POST", f"/containers/{inside}/exec", {"Cmd": ["sh", "-c", ": > /tmp/ready"]})
            workloads.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
            await until(lambda: core.last(inside).healthy, "healthy by the command inside")
        finally:
            stop.set()
            thread.join()


async def test_a_restart_of_the_agent_does_not_make_healthy_workloads_flap(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)  # long enough to report something before it is known
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    agent.settings["healthcheck"] = {"interval": 1, "timeout": 30}
    agent.settings["global_connection_timeout"] = "60s"  # a busy Docker and a busy core are not what is tried here
    agent.start()
    id = workloads.run(*FOREVER, network="host", labels=meta(HTTPPort=port, HTTPCode=200))
    await until(lambda: core.last(id).healthy, "healthy")
    assert await agent.end(signal.SIGUSR1) == 0
    before = len(core.of(id))
    agent.start()
    await until(lambda: len(core.of(id)) > before, "reported again")
    told = core.of(id)[before:]
    assert all(status.running and status.healthy for status in told), f"{told}\n{agent.said()[-2000:]}"
    server.close()


async def test_every_network_is_reported_sorted(core: RecordingCore, agent: AgentProcess, workloads: Workloads) -> None:
    name = f"agent-net-{free_port()}"
    workloads.ask("POST", "/networks/create", {"Name": name, "CheckDuplicate": True})
    try:
        agent.start()
        id = workloads.run(*FOREVER, network="bridge")
        await until(lambda: core.last(id).running, "running")
        workloads.ask("POST", f"/networks/{name}/connect", {"Container": id})
        await until(lambda: len(core.last(id).networks) == 2, "both networks reported")
        assert all(address.count(".") == 3 for address in core.last(id).networks.values())
    finally:
        workloads.clean()
        workloads.ask("DELETE", f"/networks/{name}")


async def test_nothing_is_sent_twice_and_everything_after_core_was_away(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    agent.settings["global_connection_timeout"] = "60s"  # what is answered late is not sent again
    agent.start()
    ids = [workloads.run(*FOREVER) for _ in range(3)]
    await until(lambda: all(core.last(id).running for id in ids), "all running")
    before, beats = len(core.statuses), len(core.beats)
    await until(lambda: len(core.beats) >= beats + 3, "three quiet intervals")
    assert len(core.statuses) == before, "an unchanged status must send nothing"
    await core.stop()
    await until(lambda: "heartbeat failed" in agent.said(), "the agent notices")
    core.statuses.clear()
    core.calls = 0
    await core.start()
    await until(lambda: all(core.last(id).running for id in ids), "everything again")
    assert core.calls == 1, "in one batch"
    assert agent.said().count("heartbeat failed") == 1, "one line, not one per try"


async def test_refused_status_does_not_hold_back_others(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    first, second = workloads.create(*FOREVER), workloads.create(*FOREVER)
    core.refused = {first}
    agent.start()
    for id in (first, second):
        workloads.ask("POST", f"/containers/{id}/start")
    await until(lambda: core.last(second).running, "the other one reported")
    core.refused = set()
    await until(lambda: core.last(first).running, "offered again")


async def test_registration_is_waited_for_or_made(
    core: RecordingCore, agent: AgentProcess, workloads: Workloads
) -> None:
    core.known = set()
    agent.start()
    await until(lambda: f"does not know the node '{NODE}'" in agent.said(), "a clear line")
    core.known = {NODE}
    await until(lambda: core.beats, "heartbeats once it is registered")
    await agent.end(signal.SIGUSR1)
    core.known = set()
    agent.settings["register"] = {"podname": POD, "resources": {"cpumem": {"cpu": 2}}}
    agent.settings["auth"] = {"username": "eru", "password": "secret"}
    agent.start()
    await until(lambda: core.added, "the node added by the agent itself")
    assert (core.added[0].nodename, core.added[0].podname) == (NODE, POD)
    assert json.loads(core.added[0].resources["cpumem"]) == {"cpu": 2}
    assert core.metadata[-1]["eru"] == "secret"
    assert "secret" not in agent.said()


async def test_broken_neighbours_do_not_matter(core: RecordingCore, agent: AgentProcess, workloads: Workloads) -> None:
    foreign = workloads.create(*FOREVER)
    workloads.ask("POST", f"/containers/{foreign}/rename?name=no-workload-{free_port()}")
    workloads.ask("POST", f"/containers/{foreign}/start")
    odd = workloads.run(*FOREVER, labels={"ERU_META": "{broken", "eru.health.interval": "often"})
    agent.settings["log"] = {"forwards": ["carrier-pigeon://x"]}
    agent.settings["nonsense"] = 1
    agent.start()
    await until(lambda: core.last(odd).healthy, "the one with broken labels healthy")
    assert not core.of(foreign)
    said = agent.said()
    assert "carrier-pigeon" in said
    assert "nonsense" in said
    assert "eru.health.interval" in said


async def test_http_routes(core: RecordingCore, agent: AgentProcess, workloads: Workloads) -> None:
    agent.start()
    id = workloads.run("sh", "-c", "while :; do :; done")
    await until(lambda: core.last(id).running, "running")
    assert json.loads(await agent.get("/version/"))["version"]
    assert "goroutine" in json.loads(await agent.get("/profile/"))
    series = (
        f'cpu_container_usage{{containerID="{id}",hostname="{NODE}",appname="agt",entrypoint="web",orchestrator="ERU"'
    )

    async def figures() -> bool:
        return series.encode() in await agent.get("/metrics")

    async def none_left() -> bool:
        return id.encode() not in await agent.get("/metrics")

    await until(figures, "figures")
    families = {family.name for family in text_string_to_metric_families((await agent.get("/metrics")).decode())}
    assert {"mem_usage", "cpu_host_usage", "eru_agent_heartbeats", "process_cpu_seconds"} <= families
    workloads.ask("POST", f"/containers/{id}/restart?t=0")
    await until(lambda: runs(core, id)[-2:] == [False, True], "restarted")
    await until(figures, "figures go on after a restart")
    workloads.ask("POST", f"/containers/{id}/kill")
    await until(none_left, "series removed with the workload")
    assert json.loads(await agent.get("/healthz"))["ok"]
