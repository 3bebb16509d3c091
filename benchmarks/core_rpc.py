"""The whole core through gRPC, call by call, beside the published core in the same run.

    python benchmarks/core_rpc.py [--nodes 1000] [--seconds 4] [--stores etcd,embedded] [--large 10000]

Each system is one process with nodes of engines that answer at once; the
client is the same, and lean (`lean.py`): packed requests, unpacked answers.
`--large` measures ours alone on that many nodes. The published core's binary
is named by ERU_PUBLISHED_CORE; its runs are short,
because its engines of this kind record every call for ever.
Instances ask for 0.05 CPU and 4 MiB, unbound; images are not pulled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import grpc
from deploy import CORES, MEMORY, POD, REQUEST, answering, spawn
from lean import LeanClient

from eru.wire import core_pb2 as pb
from eru.wire import core_pb2_grpc as rpc
from eru.wire import methods
from eru.wire.methods import Method
from support.etcd import EtcdCluster, free_port

CLIENTS = 32
CONNECTIONS = 2
RESOURCES = json.dumps({**REQUEST, "memory-request": str(REQUEST["memory-request"])}).encode()

Work = Callable[[int], Awaitable[Any]]


def quantile(times: list[float], part: float) -> float:
    return sorted(times)[min(int(len(times) * part), len(times) - 1)] * 1000


class Run:
    """One system under measurement. `rows`: figure -> value; rates grow with quality, times (ms) shrink."""

    def __init__(self, name: str, clients: list[LeanClient], pid: int, nodes: int, seconds: float) -> None:
        self.name, self.clients, self.pid, self.nodes, self.seconds = name, clients, pid, nodes, seconds
        self.rows: dict[str, float] = {}

    async def ask(self, turn: int, method: Method[Any, Any], request: bytes) -> list[bytes]:
        return await self.clients[turn % len(self.clients)].call(method.path, request)

    async def all(self) -> None:
        await self.ask(0, methods.AddPod, pb.AddPodOptions(name=POD).SerializeToString())
        await self.rate("AddNode, 32 at once /s", self.add_node, total=self.nodes)
        one, hundred, thousand = deploy_options(1), deploy_options(100), deploy_options(1000)
        await self.times("deploy of 1 ms", lambda turn: self.deploy(turn, one, 1))
        await self.rate("deploy of 1, 32 at once /s", lambda turn: self.deploy(turn, one, 1), cpu="deploy of 1")
        await self.rate(
            "deploy of 100, 4 at once /s", lambda turn: self.deploy(turn, hundred, 100), clients=4, weight=100
        )
        await self.rate(
            "deploy of 1000 /s",
            lambda turn: self.deploy(turn, thousand, 1000),
            clients=1,
            weight=1000,
            cpu="each of 1000",
        )
        await self.times("CalculateCapacity ms", self.capacity)
        await self.times("ListPodNodes, all ms", self.nodes_listed)
        await self.times("GetNode ms", self.node_shown)
        await self.rate("GetNode, 32 at once /s", self.node_shown)
        await self.rate("SetNodeStatus, 64 at once /s", self.node_status, clients=64, cpu="SetNodeStatus")
        self.rows["memory MiB"] = memory_mb(self.pid)

    async def times(self, what: str, work: Work) -> None:
        """One after the other; p50 and p99."""
        await work(0)
        taken, begun, turn = [], time.perf_counter(), 0
        while not taken or time.perf_counter() - begun < self.seconds:
            at = time.perf_counter()
            await work(turn := turn + 1)
            taken.append(time.perf_counter() - at)
        self.rows[f"{what} p50"], self.rows[f"{what} p99"] = quantile(taken, 0.5), quantile(taken, 0.99)

    async def rate(
        self, what: str, work: Work, clients: int = CLIENTS, weight: int = 1, total: int = 0, cpu: str = ""
    ) -> None:
        """From several clients at once; per second. `cpu`: also what it cost the server's process."""
        turns, done, begun, before = iter(range(total or 1 << 30)), 0, time.perf_counter(), cpu_s(self.pid)

        async def client() -> None:
            nonlocal done
            for turn in turns:
                await work(turn)
                done += weight
                if not total and time.perf_counter() - begun > self.seconds:
                    return

        await asyncio.gather(*(client() for _ in range(clients)))
        self.rows[what] = done / (time.perf_counter() - begun)
        if cpu:
            self.rows[f"  server CPU ms, {cpu}"] = (cpu_s(self.pid) - before) / done * 1000

    async def add_node(self, turn: int) -> None:
        resources = {"cpumem": json.dumps({"cpu": CORES, "memory": MEMORY}).encode()}
        name = node(turn)
        options = pb.AddNodeOptions(
            nodename=name, endpoint=f"mock://{name}", podname=POD, resources=resources, test=True
        )
        await self.ask(turn, methods.AddNode, options.SerializeToString())

    async def deploy(self, turn: int, request: bytes, count: int) -> None:
        answers = await self.ask(turn, methods.CreateWorkload, request)
        made = sum(pb.CreateWorkloadMessage.FromString(answer).success for answer in answers)
        assert made == count, f"{made} of {count}"

    async def capacity(self, turn: int) -> None:
        answers = await self.ask(turn, methods.CalculateCapacity, deploy_options(10))
        assert pb.CapacityMessage.FromString(answers[0]).total > 0

    async def nodes_listed(self, turn: int) -> None:
        options = pb.ListNodesOptions(podname=POD, all=True, timeout_in_second=60)
        found = await self.ask(turn, methods.ListPodNodes, options.SerializeToString())
        assert len(found) == self.nodes, len(found)
        assert pb.Node.FromString(found[-1]).podname == POD

    async def node_shown(self, turn: int) -> None:
        found = await self.ask(turn, methods.GetNode, pb.GetNodeOptions(nodename=node(7)).SerializeToString())
        assert len(found) == 1

    async def node_status(self, turn: int) -> None:
        options = pb.SetNodeStatusOptions(nodename=node(turn % self.nodes), ttl=180)
        await self.ask(turn, methods.SetNodeStatus, options.SerializeToString())


def deploy_options(count: int) -> bytes:
    """A packed request."""
    return pb.DeployOptions(
        name="bench",
        entrypoint=pb.EntrypointOptions(name="web", commands=["serve"]),
        podname=POD,
        image="image",
        count=count,
        deploy_strategy=pb.DeployOptions.AUTO,
        resources={"cpumem": RESOURCES},
        ignore_pull=True,
    ).SerializeToString()


def cpu_s(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def node(number: int) -> str:
    return f"node{number:05d}"


@asynccontextmanager
async def system(
    command: list[str], folder: Path, name: str, store: str
) -> AsyncIterator[tuple[list[LeanClient], int]]:
    """A core process that answers: several connections, and its process id."""
    port, log, config = free_port(), folder / f"{name}.log", folder / f"{name}.yaml"
    config.write_text(
        f'bind: "127.0.0.1:{port}"\nglobal_timeout: 300s\nlock_timeout: 300s\n'
        f"wal_file: {folder}/{name}.wal\ndata_dir: {folder}/{name}.data\nlog:\n    level: error\n{store}"
    )
    process = spawn([*command, "--config", str(config)], log)
    clients: list[LeanClient] = []
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await answering(rpc.CoreRPCStub(channel), process, log)  # type: ignore[no-untyped-call]
        clients = [await LeanClient.connect("127.0.0.1", port) for _ in range(CONNECTIONS)]
        yield clients, process.pid
    finally:
        for client in clients:
            client.close()
        process.send_signal(signal.SIGKILL)
        process.wait()


async def measured(name: str, store: str, published: str, nodes: int, seconds: float) -> Run:
    """One system with a store of its own."""
    command = [published] if published else [str(Path(sys.executable).parent / "eru-core")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if store == "embedded":
            async with system(command, folder, "core", "store: embedded\n") as (clients, pid):
                run = Run(name, clients, pid, nodes, seconds)
                await run.all()
                return run
        with EtcdCluster(folder) as etcd:
            machines = json.dumps([endpoint.removeprefix("http://") for endpoint in etcd.endpoints])
            told = (
                f"store: etcd\netcd:\n    machines: {machines}\n    prefix: /bench\n    lock_prefix: __lock__/bench\n"
            )
            async with system(command, folder, "core", told) as (clients, pid):
                run = Run(name, clients, pid, nodes, seconds)
                await run.all()
                return run


def table(runs: list[Run], baseline: Run | None) -> None:
    """One line per figure; in brackets how many times better than the published core."""
    print(f"{'':<34}" + "".join(f"{run.name:>24}" for run in runs))
    for what in runs[0].rows:
        line = f"{what:<34}"
        for run in runs:
            value, ratio = run.rows[what], ""
            if baseline is not None and run is not baseline:
                theirs = baseline.rows[what]
                ratio = f" ({value / theirs if '/s' in what else theirs / value:,.1f}x)"
            line += f"{value:>13,.2f}{ratio:>11}" if value < 100 else f"{value:>13,.0f}{ratio:>11}"
        print(line)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--stores", default="etcd,embedded")
    parser.add_argument("--large", type=int, default=0)
    options = parser.parse_args()
    stores = [store for store in options.stores.split(",") if store]
    print(f"# {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    if options.nodes:
        published = os.environ.get("ERU_PUBLISHED_CORE", "")
        baseline = None
        if published:
            baseline = await measured("published, etcd", "etcd", published, options.nodes, options.seconds)
        else:
            print("the published core is absent: name its binary in ERU_PUBLISHED_CORE", file=sys.stderr)
        runs = [await measured(f"ours, {store}", store, "", options.nodes, options.seconds) for store in stores]
        print(f"\n{options.nodes:,} nodes")
        table([*([baseline] if baseline else []), *runs], baseline)
    if options.large:
        runs = [await measured(f"ours, {store}", store, "", options.large, options.seconds) for store in stores]
        print(f"\n{options.large:,} nodes")
        table(runs, None)


if __name__ == "__main__":
    asyncio.run(main())
