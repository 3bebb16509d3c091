"""What is wrong around an agent: a clear line about it, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from support.agent_node import AgentProcess, RecordingCore, TcpSink, Workloads, chosen, until
from support.docker import ExtraDocker

pytestmark = pytest.mark.docker
NODE = "trouble-node"  # its memory is measured: workloads of others are none of its business
ENDLESS = 100_000_000  # bytes of a line that comes live
KEPT = 40_000_000  # bytes of one that the engine keeps; it is read several times
MEMORY_MAX = 128 << 20


@pytest.fixture
def agent(agent: AgentProcess, sink: TcpSink) -> AgentProcess:
    agent.forward_to(sink.address)
    return agent


def has(sink: TcpSink, id: str, text: str) -> bool:
    """Whether a line is among the latest, without looking through a hundred megabytes each time."""
    words = (f'"id":"{id}"'.encode(), f'"data":"{text}"'.encode())
    return any(all(word in line for word in words) for line in bytes(sink.data[-1_000_000:]).splitlines())


def peak(pid: int) -> int:
    """Most memory that a process has had, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


async def test_keys_and_forwards_that_mean_nothing(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    good = agent.settings["log"]["forwards"]
    agent.settings["log"] = {"forwards": [*good, "carrier-pigeon://loft"], "foward": ["x"]}
    agent.settings["helthcheck"] = {"interval": 3}
    agent.start()
    await until(agent.fine, "core and engine")
    said = agent.said()
    assert "log.foward (is log.forwards meant?)" in said
    assert "helthcheck (is healthcheck meant?)" in said
    assert "carrier-pigeon" in said
    ids: list[str] = []
    while not {0, 1} <= {chosen(id, 2) for id in ids}:  # until each forward is somebody's
        ids.append(workloads.run("sh", "-c", "echo here; sleep 1000"))
    await until(lambda: all(core.last(id).healthy for id in ids), "statuses")
    lucky = {id for id in ids if not chosen(id, 2)}
    await until(lambda: {record["id"] for record in sink.records()} == lucky, "lines of those with the good forward")


async def test_settings_that_cannot_work_end_the_start(agent: AgentProcess) -> None:
    """One sentence that names the key."""
    for key, value in {"metrics": {"step": "often"}, "core": [], "global_connection_timeout": "soon"}.items():
        before = agent.settings.get(key)
        agent.settings[key] = value
        agent.config.write_text(json.dumps(agent.settings))
        words = ["-m", "eru", "agent", "--config", str(agent.config)]
        done = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(done.communicate(), 60)
        assert done.returncode
        assert b"Traceback" not in said
        assert len(said.splitlines()) == 1, said
        assert key.split("_")[0].encode() in said
        agent.settings[key] = before


async def test_broken_labels_and_names_hurt_only_themselves(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    agent.start()
    await until(agent.fine, "core and engine")
    health = {"TCPPorts": "not a list", "HTTPPort": {"a": 1}}
    broken = [
        {"ERU_META": "{not json"},
        {"ERU_META": "[]"},
        {"ERU_META": json.dumps({"HealthCheck": health})},
        {"ERU_META": json.dumps({"HealthCheck": {"TCPPorts": ["99999999", "port"]}})},
        {"eru.health.interval": "never", "eru.health.exec": "'", "eru.health.unhealthy_after": "-9"},
        {"label with spaces \n and ünïcode": "\x01" * 100, "empty": ""},
    ]
    ids = [workloads.run("sh", "-c", "echo here; sleep 1000", labels=labels) for labels in broken]
    good = workloads.run("sh", "-c", "echo here; sleep 1000")
    await until(lambda: all(core.last(id).running for id in [*ids, good]), "all are reported")
    await until(lambda: all(sink.texts(id) == ["here"] for id in [*ids, good]), "lines of all")
    await until(lambda: core.last(good).healthy, "the good one healthy")
    assert not core.last(ids[3]).healthy, "no such port can be open"
    assert [core.last(ids[number]).healthy for number in (0, 1, 5)] == [True] * 3, "nothing that could be checked"
    assert "Traceback" not in agent.said()


def waiting_for_go(folder: Path, size: int) -> tuple[tuple[str, str, str], dict[str, list[str]]]:
    """A command that prints `begin`, then, once told, one line of so many bytes and `end`; and its mount."""
    (folder / "out").mkdir()
    wait = "while [ ! -e /out/go ]; do sleep 0.02; done"
    line = f"head -c {size} /dev/zero | tr '\\000' x; echo; echo end; touch /out/done"
    return ("sh", "-c", f"echo begin; {wait}; {line}; sleep 1000"), {"Binds": [f"{folder}/out:/out"]}


@pytest.mark.timeout(600)
async def test_garbage_and_a_line_without_end(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads, tmp_path: Path
) -> None:
    agent.start()
    await until(agent.fine, "core and engine")
    other = workloads.run("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
    garbage = workloads.run("sh", "-c", "head -c 3000000 /dev/urandom; echo; echo end; sleep 1000")
    await until(lambda: has(sink, garbage, "end"), "the line after garbage")
    command, mount = waiting_for_go(tmp_path, ENDLESS)
    endless = workloads.run(*command, **mount)
    await until(lambda: has(sink, endless, "begin"), "the first line")
    (tmp_path / "out" / "go").touch()
    await until(lambda: has(sink, endless, "end"), "the line after it", 240)
    pieces = sink.records(endless)[1:-1]
    assert sum(len(piece["data"]) for piece in pieces) == ENDLESS
    assert [piece.get("partial", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    seen = len(sink.texts(other))
    await until(lambda: len(sink.texts(other)) > seen, "others go on")
    assert [int(text) for text in sink.texts(other)] == list(range(len(sink.texts(other))))
    assert peak(agent.pid) <= MEMORY_MAX, f"{peak(agent.pid) >> 20} MiB"


@pytest.mark.timeout(600)
async def test_a_line_without_end_that_was_printed_while_no_agent_ran(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads, tmp_path: Path
) -> None:
    """It comes from the engine's log, in the engine's pieces."""
    agent.start()
    await until(agent.fine, "core and engine")
    command, mount = waiting_for_go(tmp_path, KEPT)
    id = workloads.run(*command, **mount)
    await until(lambda: sink.texts(id) == ["begin"], "the first line")
    await agent.end(signal.SIGKILL)
    (tmp_path / "out" / "go").touch()
    await until((tmp_path / "out" / "done").exists, "everything is printed", 240)
    agent.start()
    await until(lambda: has(sink, id, "end"), "the line after it", 240)
    assert sum(len(text) for text in sink.texts(id)[1:-1]) == KEPT
    assert peak(agent.pid) <= MEMORY_MAX, f"{peak(agent.pid) >> 20} MiB"


async def test_an_engine_that_accepts_and_never_answers(core: RecordingCore, agent: AgentProcess) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{short}/docker.sock")
        silent.listen(100)
        agent.settings["docker"] = {"endpoint": f"unix://{short}/docker.sock"}
        agent.settings["global_connection_timeout"] = "1s"
        agent.start()
        await until(lambda: "did not answer" in agent.said(), "it is said")
        assert not core.beats, "a node whose engine hangs must not look alive"
        assert not await agent.fine()
        assert await agent.get("/version/")
        assert await agent.end() == 0


async def test_an_engine_that_stops_answering_for_a_while(
    core: RecordingCore, sink: TcpSink, agent: AgentProcess, docker_endpoint: str
) -> None:
    docker = ExtraDocker(Path(tempfile.mkdtemp(prefix="at")))
    workloads = Workloads(docker.unix_endpoint, NODE)
    try:
        await asyncio.to_thread(docker.start)
        await asyncio.to_thread(docker.load, "bb", Path(docker_endpoint.removeprefix("unix://")))
        agent.settings["docker"] = {"endpoint": docker.unix_endpoint}
        agent.settings["global_connection_timeout"] = "1s"
        agent.start()
        await until(agent.fine, "core and engine")
        id = workloads.run("sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
        await until(lambda: len(sink.texts(id)) > 50, "lines")
        pid = int((docker.base / "docker.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(lambda: "engine does not answer" in agent.said(), "it is said")
            heard, quiet = len(core.beats), False
            for _ in range(10):  # the last one may still be on its way
                await asyncio.sleep(2.5)
                quiet, heard = len(core.beats) == heard, len(core.beats)
                if quiet:
                    break
            assert quiet, "no heartbeats while the engine hangs"
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: len(core.beats) > heard, "heartbeats go on")
        seen = len(sink.texts(id))
        await until(lambda: len(sink.texts(id)) > seen + 50, "lines go on")
        assert [int(text) for text in sink.texts(id)] == list(range(len(sink.texts(id)))), "none lost, none twice"
    finally:
        await agent.end(signal.SIGKILL)
        await asyncio.to_thread(docker.clean)
