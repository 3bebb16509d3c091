"""Deploys through the whole core on fake engines: inside one process, and through gRPC beside the published core.

    python benchmarks/deploy.py [--nodes 1000,10000] [--stores memory,embedded,etcd] [--wire] [--seconds 10]

Inside: one core, its store and the fake engines in this process: jobs of
1,000, of 1 from 32 clients at once, of 1 one at a time.

`--wire`: the same jobs through gRPC on 1,000 nodes; ours (`eru-core` of this
environment) and the published one (its binary named by ERU_PUBLISHED_CORE),
both with the same etcd, the same configuration file and the same client.
Each instance asks for 0.05 CPU and 4 MiB, unbound; images are not pulled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import grpc

from eru.core.app import Core
from eru.core.ops.deploy import deploy
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.log import configure_logging
from eru.lib.memory import settle_memory
from eru.lib.world import World, real_world
from eru.model.deploy import DeploySpec, Entrypoint, NodeFilter
from eru.model.nodes import Node, NodeResource, Pod
from eru.resource.registry import builtin_kinds
from eru.store.contract import Put, Store
from eru.store.keys import Keys
from eru.wire import core_pb2 as pb
from eru.wire import core_pb2_grpc as rpc
from support.etcd import EtcdCluster, free_port

POD = "bench"
CORES, MEMORY = 24, 64 << 30
REQUEST = {"cpu-request": 0.05, "memory-request": 4 << 20}
CLIENTS = 32
BULK = 1000

# Deploys `count` instances; how many came to be.
Deployer = Callable[[str, int], Awaitable[int]]


@dataclass
class Figures:
    """What one system did. Rates in workloads/s, times in ms."""

    name: str
    bulk: float = 0.0
    many: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)

    def row(self) -> str:
        return (
            f"{self.name:<34} {self.bulk:>10,.0f} {self.many:>10,.0f} {self.p50:>9.2f} {self.p99:>9.2f}  "
            + " ".join(f"{name}={value:,.0f}" for name, value in self.extra.items())
        )


async def measure(name: str, run: Deployer, seconds: float, bulk: int) -> Figures:
    """The three jobs, each for about `seconds`."""
    figures = Figures(name)
    assert await run("warm", 2) == 2
    begun, made, rates = time.perf_counter(), 0, []
    while not rates or time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        made = await run("bulk", bulk)
        rates.append(made / (time.perf_counter() - at))
        assert made == bulk, f"{made} of {bulk}"
    figures.bulk = statistics.median(rates)

    async def client(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            count += await run("many", 1)
        return count

    begun = time.perf_counter()
    total = sum(await asyncio.gather(*(client(begun + seconds) for _ in range(CLIENTS))))
    figures.many = total / (time.perf_counter() - begun)

    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        assert await run("single", 1) == 1
        times.append((time.perf_counter() - at) * 1000)
    times.sort()
    figures.p50, figures.p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return figures


# Inside one process.


@asynccontextmanager
async def opened(name: str, world: World, folder: Path) -> AsyncIterator[Store]:
    """A fresh store of that kind."""
    if name == "memory":
        from eru.store.memory import MemoryStore

        store: Store = MemoryStore(world)
        yield store
        await store.close()
    elif name == "embedded":
        from eru.store.embedded import EmbeddedStore

        store = await EmbeddedStore.open(folder, world)
        yield store
        await store.close()
    else:
        from eru.store.etcd import EtcdSettings, EtcdStore

        with EtcdCluster(folder) as etcd:
            store = await EtcdStore.open(EtcdSettings(endpoints=etcd.endpoints), world)
            yield store
            await store.close()


async def inside(store_name: str, nodes: int, seconds: float) -> Figures:
    """One core in this process."""
    world, keys, kinds = real_world(), Keys(), builtin_kinds()
    with tempfile.TemporaryDirectory() as folder:
        async with opened(store_name, world, Path(folder)) as store:
            await fill(store, keys, nodes)
            pool = EnginePool(world, engine_factories(fakes=FakeCluster()), PoolSettings(ping_every_s=0))
            core = Core(world, store, keys, pool, kinds, CoreSettings(identifier="bench"))
            at = time.perf_counter()
            await core.start()
            started_ms = (time.perf_counter() - at) * 1000
            settle_memory()

            async def run(app: str, count: int) -> int:
                return sum([result.success async for result in deploy(core, spec(app, count))])

            figures = await measure(f"inside, {store_name}, {nodes:,} nodes", run, seconds, BULK)
            figures.extra = {"start_ms": started_ms, "txns": core.committer.counters.transactions}
            await core.drain(30)
            await core.stop()
            await pool.close()
            return figures


async def fill(store: Store, keys: Keys, nodes: int) -> None:
    """Pod and nodes straight into the store."""
    kind = builtin_kinds()["cpumem"]
    capacity = {
        "cpu": float(CORES),
        "cpu_map": {str(core): 100 for core in range(CORES)},
        "memory": MEMORY,
        "numa": {},
        "numa_memory": {},
    }
    record = NodeResource(capacity={"cpumem": capacity}, usage={"cpumem": kind.zero(capacity)}).encode()
    writes = [Put(keys.pod(POD), Pod(name=POD).encode())]
    for number in range(nodes):
        name = f"node{number:05d}"
        node = Node(name=name, podname=POD, endpoint=f"fake://{name}", test=True)
        writes += [Put(keys.node(name), node.encode()), Put(keys.resource(name), record)]
    for start in range(0, len(writes), 100):
        await store.txn([], writes[start : start + 100])


def spec(app: str, count: int) -> DeploySpec:
    return DeploySpec(
        app=app,
        entrypoint=Entrypoint(name="web", commands=["serve"]),
        image="image",
        count=count,
        nodes=NodeFilter(podname=POD),
        resources={"cpumem": REQUEST},
        ignore_pull=True,
    )


# Through gRPC.


@asynccontextmanager
async def served(command: list[str], etcd: EtcdCluster, folder: Path, prefix: str) -> AsyncIterator[rpc.CoreRPCStub]:
    """A core process that answers."""
    port = free_port()
    config = folder / f"{prefix}.yaml"
    machines = [endpoint.removeprefix("http://") for endpoint in etcd.endpoints]
    config.write_text(
        f'bind: "127.0.0.1:{port}"\nglobal_timeout: 300s\nlock_timeout: 300s\nstore: etcd\n'
        f"wal_file: {folder}/{prefix}.wal\netcd:\n    machines: {json.dumps(machines)}\n    prefix: /{prefix}\n"
        f"    lock_prefix: /__lock__/{prefix}\nlog:\n    level: error\n"
    )
    log = folder / f"{prefix}.log"
    process = spawn([*command, "--config", str(config)], log)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = rpc.CoreRPCStub(channel)  # type: ignore[no-untyped-call]
            await answering(stub, process, log)
            yield stub
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def end_of(log: Path) -> str:
    return log.read_text()[-2000:]


async def answering(stub: rpc.CoreRPCStub, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(150):
        try:
            await stub.Info(pb.Empty(), timeout=2)
        except grpc.aio.AioRpcError:
            if process.poll() is not None:
                raise RuntimeError(f"the core ended: {end_of(log)}") from None
            await asyncio.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the core does not answer: {end_of(log)}")


async def over_wire(name: str, stub: rpc.CoreRPCStub, nodes: int, seconds: float, bulk: int) -> Figures:
    """The same jobs as inside, by the published messages."""
    await stub.AddPod(pb.AddPodOptions(name=POD))
    gate = asyncio.Semaphore(CLIENTS)
    resources = {"cpumem": json.dumps({"cpu": CORES, "memory": MEMORY}).encode()}

    async def add(number: int) -> None:
        async with gate:
            node = f"node{number:05d}"
            options = pb.AddNodeOptions(
                nodename=node, endpoint=f"mock://{node}", podname=POD, resources=resources, test=True
            )
            await stub.AddNode(options, timeout=120)

    at = time.perf_counter()
    await asyncio.gather(*(add(number) for number in range(nodes)))
    added = nodes / (time.perf_counter() - at)

    async def run(app: str, count: int) -> int:
        options = pb.DeployOptions(
            name=app,
            entrypoint=pb.EntrypointOptions(name="web", commands=["serve"]),
            podname=POD,
            image="image",
            count=count,
            deploy_strategy=pb.DeployOptions.AUTO,
            resources={"cpumem": json.dumps({**REQUEST, "memory-request": str(REQUEST["memory-request"])}).encode()},
            ignore_pull=True,
        )
        return sum([message.success async for message in stub.CreateWorkload(options, timeout=600)])

    figures = await measure(name, run, seconds, bulk)
    figures.extra = {"nodes_added_per_s": added}
    return figures


async def wire(nodes: int, seconds: float) -> list[Figures]:
    """Ours and, when its binary is named, the published core."""
    found = []
    with tempfile.TemporaryDirectory() as name, EtcdCluster(Path(name)) as etcd:
        folder = Path(name)
        ours = [str(Path(sys.executable).parent / "eru-core")]
        async with served(ours, etcd, folder, "ours") as stub:
            found.append(await over_wire(f"gRPC, ours, etcd, {nodes:,} nodes", stub, nodes, seconds, BULK))
        published = os.environ.get("ERU_PUBLISHED_CORE")
        if not published:
            print("the published core is absent: name its binary in ERU_PUBLISHED_CORE", file=sys.stderr)
            return found
        async with served([published], etcd, folder, "theirs") as stub:
            found.append(await over_wire(f"gRPC, published, etcd, {nodes:,} nodes", stub, nodes, seconds, BULK))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", default="1000,10000")
    parser.add_argument("--stores", default="memory,embedded,etcd")
    parser.add_argument("--wire", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    print(f"# {platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(f"{'':<34} {'bulk /s':>10} {f'{CLIENTS}x1 /s':>10} {'1: p50':>9} {'p99 ms':>9}")
    for store in filter(None, options.stores.split(",")):
        for nodes in map(int, options.nodes.split(",")):
            print(asyncio.run(inside(store, nodes, options.seconds)).row(), flush=True)
    if options.wire:
        figures = asyncio.run(wire(1000, options.seconds))
        for each in figures:
            print(each.row())
        if len(figures) == 2:
            ours, theirs = figures
            print(
                f"{'ratio':<34} {ours.bulk / theirs.bulk:>9.1f}x {ours.many / theirs.many:>9.1f}x "
                f"{theirs.p50 / ours.p50:>8.1f}x {theirs.p99 / ours.p99:>8.1f}x"
            )


if __name__ == "__main__":
    configure_logging("error")  # a line for each deploy would be most of what is measured
    main()
