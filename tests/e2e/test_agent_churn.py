"""Hundreds of containers that come and go, and a reader that stops reading: nothing stalls, nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.agent_node import WAIT_S, AgentProcess, RecordingCore, TcpSink, Workloads, until

pytestmark = pytest.mark.docker
NODE = "churn-node"  # nothing of others is counted
WAVES = 5  # the number is not the point: one file or task left per container would show
AT_ONCE = 30
HANDS = 8  # containers made or removed at the same time
MIB = 1 << 20
KEPT_MAX = (4, 2, 8.0)  # open files, tasks, MiB after all waves but the first


@pytest.fixture
async def agent(agent: AgentProcess, sink: TcpSink) -> AgentProcess:
    agent.forward_to(sink.address)
    agent.start()
    await until(agent.fine, "the agent to see core and engine")
    return agent


@pytest.mark.timeout(600)
async def test_containers_in_waves_leave_nothing_behind(
    core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    await wave(core, agent, sink, workloads)  # what is loaded and allocated once
    files, tasks, before = await held(agent)
    for _ in range(WAVES - 1):
        await wave(core, agent, sink, workloads)
    deadline = time.monotonic() + WAIT_S
    while True:  # what it still closes is none of what it keeps
        after = await held(agent)
        kept = (after[0] - files, after[1] - tasks, (after[2] - before) / MIB)
        if all(is_ <= most for is_, most in zip(kept, KEPT_MAX, strict=True)):
            break
        assert time.monotonic() < deadline, f"(files, tasks, MiB) kept: {kept}, {KEPT_MAX} may be"
    assert not list((agent.folder / "state" / "cursors").iterdir()), "cursors"


async def wave(core: RecordingCore, agent: AgentProcess, sink: TcpSink, workloads: Workloads) -> None:
    """Containers that print, some end by themselves, all are removed; every line and every end was told."""
    health = {"eru.health.exec": "true", "eru.health.interval": "1s"}
    begun = len(workloads.ids)
    core.statuses.clear()
    sink.data.clear()

    def one(number: int) -> None:
        rest = "" if number % 2 else "; sleep 1000"
        workloads.run("sh", "-c", f"echo hello{rest}", labels=health if number % 8 == 0 else {})

    with ThreadPoolExecutor(HANDS) as pool:
        await asyncio.to_thread(lambda: list(pool.map(one, range(AT_ONCE))))
        ids = workloads.ids[begun:]
        try:
            await until(lambda: {record["id"] for record in sink.records()} >= set(ids), "a line of each", 120)
        except AssertionError:
            silent = set(ids) - {record["id"] for record in sink.records()}
            raise AssertionError(f"no line of {silent}\n{agent.said()[-4000:]}") from None
        remove = [f"/containers/{id}?force=1&v=1" for id in ids]
        await asyncio.to_thread(lambda: list(pool.map(lambda path: workloads.ask("DELETE", path), remove)))
    del workloads.ids[begun:]

    async def forgotten() -> bool:
        lines = (await agent.get("/metrics")).decode().splitlines()
        return {"eru_agent_workloads 0", "eru_agent_log_pumps 0", "eru_agent_status_waiting 0"} <= set(lines)

    try:
        await until(forgotten, "all forgotten", 120)
    except AssertionError:
        counts = [line for line in (await agent.get("/metrics")).decode().splitlines() if line.startswith("eru_agent")]
        raise AssertionError(f"not all is forgotten: {counts}\n{agent.said()[-2000:]}") from None
    assert len(sink.lines()) == len(ids), "each line once"


async def held(agent: AgentProcess) -> tuple[int, int, int]:
    """Open files, tasks and bytes of memory of the process after a moment of rest."""
    await asyncio.sleep(1.5)
    tasks = json.loads(await agent.get("/profile/"))["goroutine"]
    return len(os.listdir(f"/proc/{agent.pid}/fd")), tasks, memory(agent, "VmRSS")


def memory(agent: AgentProcess, field: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at most."""
    found = Path(f"/proc/{agent.pid}/status").read_text().split(f"{field}:")[1]
    return int(found.split()[0]) << 10


@pytest.mark.timeout(600)
async def test_a_reader_that_stops_reading_stalls_nobody(
    agent: AgentProcess, sink: TcpSink, workloads: Workloads
) -> None:
    lines = 500_000
    host, _, port = agent.settings["api"]["addr"].partition(":")
    _, frozen = await asyncio.open_connection(host, int(port), limit=1024)
    reader, reading = await asyncio.open_connection(host, int(port))
    for writer, query in ((frozen, ""), (reading, "&stream=stderr")):
        writer.write(f"GET /log/?app=flood{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    frozen.transport.pause_reading()
    id = workloads.run("sh", "-c", f"seq {lines}; echo end >&2; sleep 1000", app="flood")
    size = int(await asyncio.wait_for(reader.readuntil(b"\r\n"), 240), 16)
    assert json.loads(await reader.readexactly(size))["data"] == "end", "another reader gets its records"
    end = sink.data.count
    await until(lambda: end(b"\n") == lines + 1, "every line at the receiver", 240)
    text = (await agent.get("/metrics")).decode()
    dropped = next(line for line in text.splitlines() if line.startswith("eru_agent_log_readers_dropped_total"))
    assert 0 < int(dropped.split()[1]) < lines, "the reader that does not read loses records, and they are counted"
    assert memory(agent, "VmHWM") < 128 * MIB
    assert id in sink.data[:200].decode()
    for writer in (frozen, reading):
        writer.transport.abort()
