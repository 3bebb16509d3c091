"""What the agent costs and carries, beside the published agent in the same run.

    python benchmarks/agent.py [--lines 1000000] [--containers 1 4 16] [--idle 100]

The published agent is taken from ERU_PUBLISHED_AGENT (a path); without it the
program says so and measures ours alone. Both talk to a core that records what
it is told, and forward to the same TCP sink, one agent at a time. Needs
Docker with the image `bb`; the load is printed by
its busybox.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.agent_node import NODE, POD, PROGRAM, Workloads, recording_core, until
from support.docker import free_port

DOCKER = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
QUIET_S = 3.0
LOST_AFTER_S = 20.0  # of silence: on a busy machine lines may only be late
SETTLE_S = 7.0  # the published agent lists its containers only after one connection timeout
TICKS = os.sysconf("SC_CLK_TCK")
TEXT = "x" * 91
SINK = r"""
import re, socket, sys, threading
server = socket.socket(); server.bind(("127.0.0.1", int(sys.argv[1]))); server.listen(64)
out = open(sys.argv[2], "ab", buffering=0)
def serve(connection):
    while data := connection.recv(1 << 20):
        out.write(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


READER = r"""
import resource, selectors, socket, sys
path, wanted, ids = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
poll, buffer, got = selectors.DefaultSelector(), bytearray(1 << 18), 0
for id in ids:
    link = socket.socket(socket.AF_UNIX); link.connect(path)
    link.sendall(f"POST /containers/{id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                 "Upgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head: head += link.recv(1)
    poll.register(link, selectors.EVENT_READ)
print("attached", flush=True)
while got < wanted:
    for key, _ in poll.select():
        size = key.fileobj.recv_into(buffer)
        if not size: sys.exit("the engine closed an attach")
        got += buffer.count(b"\n", 0, size)
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, flush=True)
"""


class Agent:
    """One of the two agents as a process."""

    def __init__(self, name: str, command: list[str], folder: Path, core_port: int, sink_port: int) -> None:
        self.name = name
        self._folder = folder
        self._port = free_port()
        settings: dict[str, Any] = {
            "pid": str(folder / "pid"),
            "core": [f"127.0.0.1:{core_port}"],
            "heartbeat_interval": 5,
            "check_only_mine": True,
            "docker": {"endpoint": DOCKER},
            "metrics": {"step": 10},
            "api": {"addr": f"127.0.0.1:{self._port}"},
            "healthcheck": {"interval": 5, "timeout": 3},
            "log": {"forwards": [f"tcp://127.0.0.1:{sink_port}"]},
            "state_dir": str(folder / "state"),
        }
        (folder / "agent.yaml").write_text(yaml.safe_dump(settings))
        with (folder / "log").open("wb") as out:
            self._process = subprocess.Popen(
                [*command, str(folder / "agent.yaml")],
                stdout=out,
                stderr=out,
                env={**os.environ, "ERU_HOSTNAME": NODE},
            )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self, field: str) -> float:
        """`VmRSS` now or `VmHWM` at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    async def end(self) -> None:
        self._process.send_signal(signal.SIGUSR1)
        try:
            await asyncio.to_thread(self._process.wait, 15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


async def burst(agent: Agent, sink: Path, containers: int, lines: int) -> None:
    """`lines` in total from `containers` at full speed, all at once: lost, rate, cost."""
    each = lines // containers
    clear(sink)
    with printing(containers, each) as go:
        await asyncio.to_thread(go.start)
        await asyncio.sleep(SETTLE_S / 2)
        cpu, began = agent.cpu_s(), time.monotonic()
        go.now()
        size, changed, counted, got = 0, began, 0, 0
        while got < each * containers and time.monotonic() - changed < LOST_AFTER_S:
            await asyncio.sleep(0.05)
            if (now := size_of(sink)) != size:
                size, changed = now, time.monotonic()
            elif time.monotonic() - changed > QUIET_S and size != counted:
                got, counted = count(sink, TEXT.encode()), size
        cost = (agent.cpu_s() - cpu) / (got / 1e6) if got else 0.0
        print(
            f"  {agent.name:9} {containers:3} containers: lost {each * containers - got:8} of {each * containers}, "
            f"{got / max(changed - began, 0.001):9.0f} lines/s, {cost:5.2f} CPU s per million, "
            f"peak {agent.memory_mib('VmHWM'):4.0f} MiB",
            flush=True,
        )


async def ceiling(containers: int, lines: int) -> None:
    """What Docker delivers to a reader that throws everything away, and what it spends on that."""
    each = lines // containers
    with printing(containers, each) as go:
        await asyncio.to_thread(go.start)
        what = [DOCKER.removeprefix("unix://"), str(each * containers), *go.ids]
        out = asyncio.subprocess.PIPE
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", READER, *what, stdout=out)
        try:
            async with asyncio.timeout(60):
                assert reader.stdout is not None
                await reader.stdout.readline()
                daemon, began = docker_cpu_s(), time.monotonic()
                go.now()
                own = float(await reader.stdout.readline())
                spent, daemon = time.monotonic() - began, docker_cpu_s() - daemon
        except BaseException:
            reader.kill()
            raise
        print(
            f"  no agent  {containers:3} containers: {each * containers / spent:9.0f} lines/s, CPU s per million: "
            f"dockerd {daemon / lines * 1e6:5.2f}, reader {own / lines * 1e6:5.2f}",
            flush=True,
        )


class Printing:
    """Containers that wait for a sign and then print `each` lines as fast as they can."""

    def __init__(self, folder: str, containers: int, each: int) -> None:
        self._folder, self._containers = folder, containers
        wait = "while [ ! -e /go/now ]; do sleep 0.02; done"
        self._script = f"{wait}; yes {TEXT} | head -n {each}; sleep 1000"
        self.workloads = Workloads(DOCKER)

    @property
    def ids(self) -> list[str]:
        return self.workloads.ids

    def start(self) -> None:
        for _ in range(self._containers):
            self.workloads.run("sh", "-c", self._script, Binds=[f"{self._folder}:/go"])

    def now(self) -> None:
        (Path(self._folder) / "now").touch()


@contextmanager
def printing(containers: int, each: int) -> Iterator[Printing]:
    with tempfile.TemporaryDirectory() as folder:
        made = Printing(folder, containers, each)
        try:
            yield made
        finally:
            made.workloads.clean()


def docker_cpu_s() -> float:
    """Of all dockerd processes of this machine."""
    spent = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "dockerd":
            fields = rest.split()
            spent += (int(fields[11]) + int(fields[12])) / TICKS
    return spent


def clear(path: Path) -> None:
    path.write_bytes(b"")


def size_of(path: Path) -> int:
    return path.stat().st_size


def holds(path: Path, text: bytes) -> bool:
    return text in path.read_bytes()


def count(path: Path, text: bytes) -> int:
    """Lines with `text`, without holding the file in memory."""
    with path.open("rb") as file:
        return sum(text in line for line in file)


async def idle(agent: Agent, containers: int, seconds: float) -> None:
    """CPU and memory with containers that do nothing but be checked and measured."""
    with socket.socket() as target:
        target.bind(("127.0.0.1", 0))
        target.listen(512)
        target.setblocking(False)
        port = target.getsockname()[1]
        meta = f'{{"Publish":null,"HealthCheck":{{"TCPPorts":["{port}"],"HTTPPort":"","HTTPURL":"","HTTPCode":0}}}}'
        workloads = Workloads(DOCKER)
        loop = asyncio.get_running_loop()

        def accept() -> None:
            target.accept()[0].close()

        loop.add_reader(target.fileno(), accept)
        try:
            for _ in range(containers):
                await asyncio.to_thread(workloads.run, "sleep", "1000", network="host", labels={"ERU_META": meta})
            await asyncio.sleep(12)
            cpu, began = agent.cpu_s(), time.monotonic()
            await asyncio.sleep(seconds)
            part = (agent.cpu_s() - cpu) / (time.monotonic() - began)
            print(
                f"  {agent.name:9} {containers:3} idle containers: {part * 100:4.1f} % of a core, "
                f"{agent.memory_mib('VmRSS'):4.0f} MiB"
            )
        finally:
            loop.remove_reader(target.fileno())
            await asyncio.to_thread(workloads.clean)


async def first_line(agent: Agent, sink: Path) -> None:
    """From Docker's answer to the start until the first line has arrived."""
    workloads = Workloads(DOCKER)
    times = []
    try:
        for number in range(10):
            clear(sink)
            id = workloads.create("sh", "-c", f"echo first{number}; sleep 1000")
            await asyncio.to_thread(workloads.ask, "POST", f"/containers/{id}/start")
            began = time.monotonic()
            await until(partial(holds, sink, f"first{number}".encode()), "the first line", 10)
            times.append(time.monotonic() - began)
        times.sort()
        print(f"  {agent.name:9} first line after start: p50 {times[5] * 1000:.0f} ms, most {times[-1] * 1000:.0f} ms")
    except AssertionError:
        print(f"  {agent.name:9} first line after start: lost")
    finally:
        workloads.clean()


async def measure(name: str, command: list[str], options: argparse.Namespace) -> None:
    """All figures of one agent, in a fresh process per part."""
    with tempfile.TemporaryDirectory() as folder:
        sink, sink_port = Path(folder) / "sink", free_port()
        receiver = started([sys.executable, "-c", SINK, str(sink_port), str(sink)])
        try:
            async with recording_core() as core:
                parts: list[Any] = [lambda agent, n=n: burst(agent, sink, n, options.lines) for n in options.containers]
                parts.append(lambda agent: first_line(agent, sink))
                parts += [lambda agent, n=n: idle(agent, n, options.seconds) for n in options.idle]
                for number, part in enumerate(parts):
                    own = Path(folder) / str(number)
                    own.mkdir()
                    heard = len(core.beats)
                    agent = Agent(name, command, own, core.port, sink_port)
                    try:
                        await until(lambda heard=heard: len(core.beats) > heard, "a heartbeat", 20)
                        await asyncio.sleep(SETTLE_S)
                        await part(agent)
                    finally:
                        await agent.end()
        finally:
            receiver.kill()


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--containers", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--idle", type=int, nargs="*", default=[100])
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, pod {POD}")
    ours = [sys.executable, "-c", PROGRAM]
    print("ours")
    for containers in options.containers:
        asyncio.run(ceiling(containers, options.lines))
    asyncio.run(measure("ours", ours, options))
    published = os.environ.get("ERU_PUBLISHED_AGENT", "")
    if not shutil.which(published):
        print("published agent: not measured, set ERU_PUBLISHED_AGENT to its path")
        return
    print("published")
    asyncio.run(measure("published", [published, "--config"], options))


if __name__ == "__main__":
    main()
