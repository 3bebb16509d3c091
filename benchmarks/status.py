"""Status reports through a whole core to many watchers, beside the published core in the same run.

    python benchmarks/status.py [--watchers 100] [--rates 20,100,500,5000] [--seconds 8] [--workloads 500]

1. How many reports a second are taken, one to a call (64 callers, as agents
   do) and 50 to a call, without watchers and with `--watchers` of them.
2. At each of `--rates` reports a second (50 callers at most at a time): how
   many messages a second arrive at all watchers together, how long after the
   last report the last watcher has the last state of each workload, and how
   many were cut off. A watcher that reads every report gets
   rate x seconds messages: `kept` is the part of it that arrived.

Every report changes something, so that each is an event. Watchers are raw
HTTP/2 clients in a process of their own that count messages and remember the
last one of each workload; a client of grpc in Python would cost as much as
the core that is measured. The published core is named by ERU_PUBLISHED_CORE.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import grpc
from core_rpc import CORES, MEMORY, POD, RESOURCES, node, system

from eru.wire import core_pb2 as pb
from eru.wire import core_pb2_grpc as rpc
from support.etcd import EtcdCluster

NODES = 10
CALLERS = 64
BATCH = 50
PER_CONNECTION = 90
PREFIX = struct.Struct(">BI").unpack_from
METHOD = b"/pb.CoreRPC/WorkloadStatusStream"


class Watching(asyncio.Protocol):
    """One connection with several open streams, just enough HTTP/2 to count gRPC messages."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._buffer = b""
        self._parts: dict[int, bytes] = {}
        self._seen: dict[int, dict[bytes, tuple[bytes, int, int]]] = {}  # stream -> workload -> where its newest is
        self.count = 0
        self.changed = time.time()
        self.ended: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport
        window = (1 << 31) - 1
        settings = (
            (4).to_bytes(2, "big") + window.to_bytes(4, "big") + (5).to_bytes(2, "big") + (1 << 20).to_bytes(4, "big")
        )
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings)
        hello += frame(8, 0, 0, (window - 65535).to_bytes(4, "big"))
        headers = b"".join(
            b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
            for name, value in [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", METHOD),
                (b":authority", b"core"),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            ]
        )
        for number in range(self._streams):
            id = 2 * number + 1
            self._seen[id] = {}
            hello += frame(1, 4, id, headers) + frame(0, 1, id, b"\0" * 5)
        transport.write(hello)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        at, taken, size = 0, 0, len(buffer)
        while size - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            end = at + 9 + length
            if end > size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            id = int.from_bytes(buffer[at + 5 : at + 9], "big")
            if kind == 0:
                taken += length
                self._message(id, buffer[at + 9 : end])
            elif kind == 6 and not flags & 1:
                self._out.write(frame(6, 1, 0, buffer[at + 9 : end]))
            elif kind == 4 and not flags & 1:
                self._out.write(frame(4, 1, 0, b""))
            if (kind in (0, 1) and flags & 1) or kind == 3:
                self.ended.add(id)
            at = end
        self._buffer = buffer[at:]
        if taken:
            self.changed = time.time()
            self._out.write(frame(8, 0, 0, taken.to_bytes(4, "big")))

    def _message(self, id: int, data: bytes) -> None:
        part = self._parts.get(id, b"") + data
        at, size, seen = 0, len(part), self._seen[id]
        while size - at >= 5:
            end = at + 5 + PREFIX(part, at)[1]
            if end > size:
                break
            # field 1, the id, comes first: its length says where it ends
            seen[part[at + 7 : at + 7 + part[at + 6]]] = (part, at + 5, end)
            self.count += 1
            at = end
        self._parts[id] = part[at:]

    def states(self) -> list[set[tuple[str, str]]]:
        """Per stream (workload, what its agent wrote into its newest report)."""
        return [{parsed(part[at:end]) for part, at, end in seen.values()} for seen in self._seen.values()]


def frame(kind: int, flags: int, id: int, data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + id.to_bytes(4, "big") + data


def watch(port: int, watchers: int, pipe: Any) -> None:
    """A process: opens the streams, answers every question with (messages, last change, ended, newest per watcher)."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections: list[Watching] = []
        for number in range(0, watchers, PER_CONNECTION):
            streams = min(PER_CONNECTION, watchers - number)
            _, protocol = await loop.create_connection(lambda streams=streams: Watching(streams), "127.0.0.1", port)
            connections.append(protocol)
        while True:
            question = await asyncio.to_thread(pipe.recv)
            if question == "end":
                return
            if question == "last":
                pipe.send([states for one in connections for states in one.states()])
            else:
                pipe.send(
                    (
                        sum(one.count for one in connections),
                        max(one.changed for one in connections),
                        sum(len(one.ended) for one in connections),
                    )
                )

    asyncio.run(main())


def parsed(message: bytes) -> tuple[str, str]:
    """(workload, what its agent wrote into the newest report)."""
    said = pb.WorkloadStatusStreamMessage.FromString(message)
    return said.id, said.status.extension.decode()


class Watchers:
    """The process of `watch`, seen from here."""

    def __init__(self, port: int, watchers: int) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=watch, args=(port, watchers, theirs))
        self._process.start()

    async def ask(self, question: str) -> Any:
        await asyncio.to_thread(self._pipe.send, question)
        return await asyncio.to_thread(self._pipe.recv)

    def close(self) -> None:
        self._pipe.send("end")
        self._process.join(10)
        self._process.kill()


class Run:
    """One core under measurement."""

    def __init__(self, name: str, stubs: list[Any], pid: int, options: argparse.Namespace) -> None:
        self.name, self._stubs, self._pid, self._options = name, stubs, pid, options
        self._ids: list[str] = []
        self._places: dict[str, str] = {}
        self._number = 0
        self.rows: dict[str, str] = {}

    async def fill(self) -> None:
        """Nodes and workloads."""
        stub = self._stubs[0]
        await stub.AddPod(pb.AddPodOptions(name=POD))
        cpumem = json.dumps({"cpu": CORES, "memory": MEMORY}).encode()
        for number in range(NODES):
            name = node(number)
            await stub.AddNode(
                pb.AddNodeOptions(
                    nodename=name, endpoint=f"mock://{name}", podname=POD, resources={"cpumem": cpumem}, test=True
                )
            )
        options = pb.DeployOptions(
            name="bench",
            entrypoint=pb.EntrypointOptions(name="web", commands=["serve"]),
            podname=POD,
            image="image",
            count=self._options.workloads,
            deploy_strategy=pb.DeployOptions.AUTO,
            resources={"cpumem": RESOURCES},
            ignore_pull=True,
        )
        async for message in stub.CreateWorkload(options, timeout=600):
            self._ids.append(message.id)
            self._places[message.id] = message.nodename
        assert all(self._ids), "a deploy failed"
        await self.reports(len(self._ids), BATCH, 4)  # each has a status

    def batch(self, size: int) -> pb.SetWorkloadsStatusOptions:
        """Something new of the next workloads, round robin."""
        statuses = []
        for _ in range(size):
            self._number += 1
            id = self._ids[self._number % len(self._ids)]
            statuses.append(
                pb.WorkloadStatus(
                    id=id,
                    running=True,
                    healthy=self._number % 2 == 0,
                    networks={"bridge": "172.17.0.2"},
                    extension=str(self._number).encode(),
                    appname="bench",
                    entrypoint="web",
                    nodename=self._places[id],
                )
            )
        return pb.SetWorkloadsStatusOptions(status=statuses)

    async def reports(self, total: int, size: int, callers: int) -> None:
        """So many, as fast as they are taken."""
        turns = iter(range(0, total, size))

        async def caller() -> None:
            for turn in turns:
                await self._stubs[turn % len(self._stubs)].SetWorkloadsStatus(self.batch(size), timeout=120)

        await asyncio.gather(*(caller() for _ in range(callers)))

    async def taken(self, what: str, size: int) -> None:
        """Reports a second, as fast as they are taken."""
        done, begun, cpu = 0, time.perf_counter(), cpu_s(self._pid)
        while (took := time.perf_counter() - begun) < self._options.seconds / 2:
            await self.reports(size * 128, size, CALLERS if size == 1 else 4)
            done += size * 128
        self.rows[f"reports, {what} /s"] = f"{done / took:,.0f}"
        self.rows[f"reports, {what}: CPU us each"] = f"{(cpu_s(self._pid) - cpu) / done * 1e6:,.0f}"

    async def paced(self, rate: int, watchers: Watchers) -> None:
        """At one rate: what arrives, and when all of it is there."""
        before, _, _ = await watchers.ask("count")
        size = max(1, rate // 100)
        begun, sent, running = time.perf_counter(), 0, set()
        cpu = cpu_s(self._pid)
        newest: dict[str, str] = {}
        while sent < rate * self._options.seconds:
            if (early := sent / rate - (time.perf_counter() - begun)) > 0:
                await asyncio.sleep(early)
            options = self.batch(size)
            newest.update((status.id, status.extension.decode()) for status in options.status)
            running.add(asyncio.ensure_future(self._stubs[0].SetWorkloadsStatus(options, timeout=120)))
            sent += size
            while len(running) >= 50:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*running)
        took, ended = time.perf_counter() - begun, time.time()
        wanted = sent * self._options.watchers
        while True:
            await asyncio.sleep(1.0)
            count, changed, cut = await watchers.ask("count")
            if time.time() - changed > 3.0 or time.time() - ended > 60:
                break
        got = count - before
        current = sum(set(newest.items()) <= states for states in await watchers.ask("last"))
        row = f"{sent / took:,.0f}/s taken; {got / max(changed - ended + took, took):,.0f} messages/s, "
        row += f"{got / wanted:.0%} of all, {current} watchers end current, {max(changed - ended, 0):.1f} s after"
        row += f", {cut} cut off" if cut else ""
        self.rows[f"{rate:,} reports/s"] = row + f"; core CPU {(cpu_s(self._pid) - cpu) / took:.0%}"

    async def all(self, port: int) -> None:
        await self.fill()
        await self.taken("1 to a call", 1)
        await self.taken(f"{BATCH} to a call", BATCH)
        watchers = Watchers(port, self._options.watchers)
        try:
            await asyncio.sleep(2.0)
            for rate in self._options.rates:
                await self.paced(rate, watchers)
        finally:
            watchers.close()


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measured(name: str, store: str, published: str, options: argparse.Namespace) -> Run:
    """One core with a store of its own."""
    command = [published] if published else [str(Path(sys.executable).parent / "eru-core")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        async def run(told: str) -> Run:
            async with system(command, folder, "core", told) as (_, pid), AsyncExitStack() as stack:
                port = int((folder / "core.yaml").read_text().partition("127.0.0.1:")[2].partition('"')[0])
                own = [("grpc.use_local_subchannel_pool", 1)]
                channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) for _ in range(2)]
                for channel in channels:
                    await stack.enter_async_context(channel)
                one = Run(name, [rpc.CoreRPCStub(channel) for channel in channels], pid, options)
                await one.all(port)
                return one

        if store == "embedded":
            return await run("store: embedded\n")
        with EtcdCluster(folder) as etcd:
            machines = json.dumps([endpoint.removeprefix("http://") for endpoint in etcd.endpoints])
            return await run(
                f"store: etcd\netcd:\n    machines: {machines}\n    prefix: /bench\n    lock_prefix: __lock__/bench\n"
            )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--rates", type=lambda text: [int(part) for part in text.split(",")], default="20,100,500,5000")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--workloads", type=int, default=500)
    parser.add_argument("--stores", default="etcd,embedded")
    options = parser.parse_args()
    print(f"# {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    systems: list[Callable[[], Awaitable[Run]]] = []
    published = os.environ.get("ERU_PUBLISHED_CORE", "")
    if published:
        systems.append(lambda: measured("published, etcd", "etcd", published, options))
    else:
        print("the published core is absent: name its binary in ERU_PUBLISHED_CORE", file=sys.stderr)
    for store in filter(None, options.stores.split(",")):
        systems.append(lambda store=store: measured(f"ours, {store}", store, "", options))  # type: ignore[misc]
    for one in systems:
        run = await one()
        print(f"\n{run.name}")
        for what, value in run.rows.items():
            print(f"    {what:<36} {value}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
