"""A core that starts on a large cluster: time, CPU, memory, and its first deploys.

    python benchmarks/scale.py [--nodes 10000] [--workloads 0,100000] [--stores embedded,etcd]

The records are written straight into the store, as a core would have written
them; then a core in this process reads them, and deploys of 1 follow, one
after the other. CPU is that of this process, so with the embedded store the
store is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from deploy import MEMORY, POD, opened, spec
from deploy import fill as fill_nodes

from eru.core.app import Core
from eru.core.ops.deploy import deploy
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.log import configure_logging
from eru.lib.memory import settle_memory
from eru.lib.world import World, real_world
from eru.model.workloads import Workload
from eru.resource.registry import builtin_kinds
from eru.store.contract import Put, Store, Write
from eru.store.keys import Keys

APPS = 500
WORKLOADS_IN_ONE = 40  # in one transaction
AT_ONCE = 8  # transactions
DEPLOYS = 200


def records(keys: Keys, nodes: int, workloads: int) -> Iterator[list[Write]]:
    """What each transaction writes."""
    for start in range(0, workloads, WORKLOADS_IN_ONE):
        writes: list[Write] = []
        for number in range(start, min(start + WORKLOADS_IN_ONE, workloads)):
            id, node, app = f"{number:064x}", f"node{number % nodes:05d}", f"app{number % APPS}"
            name = f"{app}_web_{number:06d}"
            grant = {"cpumem": {"cpu_request": 0.05, "cpu_limit": 0.05, "memory_request": 4 << 20}}
            workload = Workload(
                id=id, name=name, podname=POD, nodename=node, user="", privileged=False, image="image", grant=grant
            )
            writes += [
                Put(keys.workload(id), workload.encode()),
                Put(keys.on_node(node, id), f"{app}/web/{name}".encode()),
                Put(keys.of_app(app, "web", node, id), b""),
            ]
        yield writes


async def fill(store: Store, keys: Keys, nodes: int, workloads: int) -> None:
    await fill_nodes(store, keys, nodes)

    async def write(writes: list[Write]) -> None:
        await store.txn([], writes)

    left = records(keys, nodes, workloads)
    while some := list(islice(left, AT_ONCE)):
        await asyncio.gather(*map(write, some))


def memory_mb() -> float:
    """Resident, of this process."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


async def measured(name: str, world: World, store: Store, keys: Keys) -> str:
    pool = EnginePool(world, engine_factories(fakes=FakeCluster()), PoolSettings(ping_every_s=0))
    core = Core(world, store, keys, pool, builtin_kinds(), CoreSettings(identifier="bench"))
    before, wall, cpu = memory_mb(), time.perf_counter(), time.process_time()
    await core.start()
    settle_memory()
    wall, cpu, grown = time.perf_counter() - wall, time.process_time() - cpu, memory_mb() - before
    times, busy = [], time.process_time()
    for _ in range(DEPLOYS):
        at = time.perf_counter()
        assert [result.success async for result in deploy(core, spec("single", 1))] == [True]
        times.append((time.perf_counter() - at) * 1000)
    busy = (time.process_time() - busy) / DEPLOYS * 1000
    counted = sum(sum(rows.values()) for rows in core.fleet.view.counts().values())
    await core.drain(30)
    await core.stop()
    await pool.close()
    times.sort()
    return (
        f"{name:<10}{counted - DEPLOYS:>12,}{wall:>10.2f}{cpu:>10.2f}{grown:>10.0f}"
        f"{times[DEPLOYS // 2]:>12.2f}{times[DEPLOYS * 99 // 100]:>10.2f}{busy:>10.2f}"
    )


async def run(name: str, nodes: int, workloads: int) -> None:
    world, keys = real_world(), Keys()
    with tempfile.TemporaryDirectory() as folder:
        async with opened(name, world, Path(folder)) as store:
            await fill(store, keys, nodes, workloads)
            print(await measured(name, world, store, keys), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--workloads", default="0,100000")
    parser.add_argument("--stores", default="embedded,etcd")
    options = parser.parse_args()
    print(f"{options.nodes:,} nodes of {MEMORY >> 30} GiB")
    print(f"{'':<10}{'workloads':>12}{'start s':>10}{'CPU s':>10}{'MiB more':>10}", end="")
    print(f"{'1: p50 ms':>12}{'p99':>10}{'CPU ms':>10}")
    for name in options.stores.split(","):
        for workloads in options.workloads.split(","):
            asyncio.run(run(name, options.nodes, int(workloads)))


if __name__ == "__main__":
    configure_logging("error")
    main()
