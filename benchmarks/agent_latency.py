"""How soon the agent is heard: the first line of new containers, and the death of killed ones.

    python benchmarks/agent_latency.py [--at-once 1 10 50] [--rounds 5]

Reference is Docker's own event of the same container (its `timeNano`), on the
same clock. *First line*: containers are created and started one right after
the other, many at once, as core does it; until the first record is at a TCP
receiver. *Killed*: workloads deployed by a core process, killed by `docker
kill`; until core's `WorkloadStatusStream` has told it. Each container has a
health check that never passes, which must not matter.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from support.agent_node import NODE, AgentProcess, Workloads, recording_core, until
from support.core_processes import POD, CoreProcess, deploy_options, deployed, node_options
from support.docker import free_port

DOCKER = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
UNHEALTHY = '{"Publish":null,"HealthCheck":{"TCPPorts":["9"],"HTTPPort":"","HTTPURL":"","HTTPCode":0}}'
WAIT_S = 60.0
SINK = r"""
import socket, sys, threading, time
server = socket.socket(); server.bind(("127.0.0.1", int(sys.argv[1]))); server.listen(64)
out = open(sys.argv[2], "a", buffering=1)
def serve(connection):
    rest = b""
    while data := connection.recv(1 << 20):
        now = time.time_ns()
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            out.write(f"{now} {line[7:71].decode()}\n")
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


class Events(threading.Thread):
    """Docker's own events: (action, id) -> nanoseconds since the epoch."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: dict[tuple[str, str], int] = {}
        self._link = http.client.HTTPConnection("docker")
        self._link.sock = socket.socket(socket.AF_UNIX)
        self._link.sock.connect(DOCKER.removeprefix("unix://"))
        self._link.request(
            "GET", "/events?filters=" + '{"type":["container"],"event":["start","die"]}'.replace('"', "%22")
        )
        self._answer = self._link.getresponse()
        self.start()

    def run(self) -> None:
        for line in self._answer:
            event = json.loads(line)
            self.seen[event["Action"], event["Actor"]["ID"]] = event["timeNano"]


def told(kind: str, count: int, times_ms: list[float]) -> None:
    """One row of the distribution."""
    times = sorted(times_ms)
    part = {name: times[min(int(len(times) * at), len(times) - 1)] for name, at in (("p50", 0.5), ("p90", 0.9))}
    shown = "  ".join(f"{name} {value:6.1f}" for name, value in (part | {"most": times[-1]}).items())
    print(f"  {kind:11} {count:3} at once  {shown} ms  ({len(times)} containers)", flush=True)


async def first_lines(at_once: list[int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "sink", free_port()
        clear(path)
        receiver = started([sys.executable, "-c", SINK, str(port), str(path)])
        async with recording_core() as core:
            agent = AgentProcess(
                Path(folder),
                core.port,
                DOCKER,
                api={"addr": f"127.0.0.1:{free_port()}"},
                log={"forwards": [f"tcp://127.0.0.1:{port}"]},
                healthcheck={"interval": 5, "timeout": 3},
            )
            try:
                agent.start()
                await until(agent.fine, "the agent to see core and engine", 20)
                for count in at_once:
                    times: list[float] = []
                    for _ in range(rounds if count > 1 else rounds * 4):
                        times += await one_round(path, count)
                    told("first line", count, times)
            finally:
                await agent.end()
                receiver.kill()


async def one_round(path: Path, count: int) -> list[float]:
    """Milliseconds from the start event to the first record, of each of `count` containers."""
    workloads, events = Workloads(DOCKER), Events()
    clear(path)
    command = ("sh", "-c", "echo first; sleep 1000")
    try:
        with ThreadPoolExecutor(count) as pool:
            ids = list(pool.map(lambda _: workloads.run(*command, labels={"ERU_META": UNHEALTHY}), range(count)))
        await until(lambda: set(ids) <= set(arrivals(path)), "first lines of all", WAIT_S)
        await until(lambda: all(("start", id) in events.seen for id in ids), "all start events", WAIT_S)
        got = arrivals(path)
        return [(got[id] - events.seen["start", id]) / 1e6 for id in ids]
    finally:
        await asyncio.to_thread(workloads.clean)


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command)


def clear(path: Path) -> None:
    path.write_bytes(b"")


def arrivals(path: Path) -> dict[str, int]:
    """Workload id -> when its first record arrived."""
    found: dict[str, int] = {}
    for line in path.read_text().splitlines():
        at, _, id = line.partition(" ")
        if len(id) == 64:
            found.setdefault(id, int(at))
    return found


@asynccontextmanager
async def whole_node(folder: Path) -> AsyncIterator[CoreClient]:
    """A core process with embedded store, this Docker as its node, and the agent beside it."""
    core = CoreProcess(
        folder, "core", {"store": "embedded", "data_dir": str(folder / "store"), "docker": {"nofile": 20000}}
    )
    core.start()
    client = connect([core.address], world=real_world())
    port = int(core.address.rpartition(":")[2])
    agent = AgentProcess(
        folder, port, DOCKER, hostname=NODE, api={"addr": f"127.0.0.1:{free_port()}"}, heartbeat_interval=5
    )
    try:
        async with client:
            await client.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
            await client.unary(rpc.AddNode, node_options(NODE, endpoint=DOCKER))
            agent.start()
            await until(agent.fine, "the agent to see core and engine", 20)
            yield client
    finally:
        await agent.end()
        core.stop()


async def deaths(at_once: list[int], rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with whole_node(Path(folder)) as client:
            for count in at_once:
                times: list[float] = []
                for _ in range(rounds if count > 1 else rounds * 4):
                    times += await one_killing(client, count)
                told("killed", count, times)


async def one_killing(client: CoreClient, count: int) -> list[float]:
    """Milliseconds from the die event to the message on core's stream."""
    workloads, events = Workloads(DOCKER), Events()
    heard: dict[str, int] = {}
    running: set[str] = set()

    async def listen() -> None:
        async for message in client.stream(rpc.WorkloadStatusStream, pb.WorkloadStatusStreamOptions()):
            if message.status.running:
                running.add(message.id)
            elif message.id in running:
                heard.setdefault(message.id, time.time_ns())

    listener = asyncio.create_task(listen())
    try:
        await asyncio.sleep(0.3)
        answers = await deployed(client, deploy_options("killed", count))
        assert all(answer.success for answer in answers), answers[0].error
        ids = [answer.id for answer in answers]
        workloads.ids += ids
        await until(lambda: set(ids) <= running, "all running", WAIT_S)
        await asyncio.sleep(0.5)

        def kill(id: str) -> Any:
            return workloads.ask("POST", f"/containers/{id}/kill")

        with ThreadPoolExecutor(count) as pool:
            await asyncio.gather(*(asyncio.get_running_loop().run_in_executor(pool, kill, id) for id in ids))
            await until(lambda: set(ids) <= set(heard), "all deaths told", WAIT_S)
        return [(heard[id] - events.seen["die", id]) / 1e6 for id in ids]
    finally:
        listener.cancel()
        if workloads.ids:
            remove = pb.RemoveWorkloadOptions(IDs=workloads.ids, force=True)
            async for _ in client.stream(rpc.RemoveWorkload, remove, timeout_s=120):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 10, 50])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["first", "killed"])
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    if options.only != "killed":
        asyncio.run(first_lines(options.at_once, options.rounds))
    if options.only != "first":
        asyncio.run(deaths(options.at_once, options.rounds))


if __name__ == "__main__":
    main()
