"""Several core processes over one etcd: one cluster to its clients, whichever of them comes and goes."""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from eru.lib.world import real_world
from eru.model.errors import EruError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import CoreClient, connect
from support.core_processes import MB, POD, CoreProcess, books, deploy_options, deployed, listed, node_options, removed
from support.ports import free_port

WORLD = real_world()
MANY = 60  # instances, so that a deploy is far from over when the first ones exist
Cores = Callable[[int], list[CoreProcess]]


@pytest.fixture
def cores(etcd_endpoint: str, tmp_path: Path) -> Iterator[Cores]:
    """So many cores of one new cluster, all serving."""
    running: list[CoreProcess] = []
    cluster = f"several{time.time_ns()}"
    store = {"machines": [etcd_endpoint], "prefix": f"/{cluster}"}

    def start(count: int) -> list[CoreProcess]:
        for number in range(count):
            settings = {
                "store": "etcd",
                "etcd": store,
                "identifier": cluster,
                "docker": {"nofile": 0},
                "profile": f"127.0.0.1:{free_port()}",
            }
            running.append(CoreProcess(tmp_path, f"core{number}", settings))
            running[-1].start(wait=False)
        for core in running:
            core.wait_until_serving()
        return running

    yield start
    for core in running:
        core.close()


def served(core: CoreProcess, call: str) -> float:
    """How many calls of that name a core has answered, by its own count."""
    with urllib.request.urlopen(f"http://{core.settings['profile']}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("eru_rpc_total{") and f'"{call}"' in line)


async def first_with(client: CoreClient, addresses: set[str]) -> None:
    """Until the list of cores is exactly that."""
    async with asyncio.timeout(60), aclosing(client.stream(rpc.WatchServiceStatus, pb.Empty())) as announced:
        async for status in announced:
            if set(status.addresses) == addresses:
                return


async def test_clients_find_all_cores_and_use_all_of_them(cores: Cores) -> None:
    group = cores(3)
    addresses = {core.address for core in group}
    for core in group:
        async with connect(core.address, world=WORLD) as client:
            await first_with(client, addresses)
    async with connect(f"eru://{group[0].address}", world=WORLD) as client:
        async with asyncio.timeout(60):
            while set(client.addresses) != addresses:
                await client.unary(rpc.Info, pb.Empty())
        before = [served(core, "Info") for core in group]
        for _ in range(60):
            await client.unary(rpc.Info, pb.Empty())
        shares = [served(core, "Info") - earlier for core, earlier in zip(group, before, strict=True)]
    assert sum(shares) == 60
    assert min(shares) >= 10, shares

    group[2].kill()
    async with connect([core.address for core in group], world=WORLD) as client:
        for _ in range(30):
            await client.unary(rpc.Info, pb.Empty())


class Load:
    """Clients that read, deploy and remove until told to end; every failure is kept."""

    def __init__(self, client: CoreClient) -> None:
        self.client = client
        self.failures: list[str] = []
        self.done = {"read": 0, "deploy": 0}
        self.going = True

    async def run(self) -> None:
        await asyncio.gather(
            *(self._repeat("deploy", self._deploy) for _ in range(4)), self._repeat("read", self._read)
        )

    async def _repeat(self, what: str, work: Any) -> None:
        while self.going:
            try:
                await work()
                self.done[what] += 1
            except EruError as error:
                self.failures.append(f"{what}: {error}")

    async def _read(self) -> None:
        await self.client.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n0"))
        await listed(self.client, "roll")

    async def _deploy(self) -> None:
        made = await deployed(self.client, deploy_options("roll", 1))
        self.failures += [f"deploy: {message.error}" for message in made if not message.success]
        for message in await removed(self.client, [message.id for message in made if message.success]):
            if not message.success:
                self.failures.append(f"remove {message.id}: {message.hook}")


async def test_all_cores_restart_under_load_and_no_request_fails(cores: Cores) -> None:
    group = cores(2)
    async with connect([core.address for core in group], world=WORLD) as client:
        await client.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
        for number in range(4):
            await client.unary(rpc.AddNode, node_options(f"n{number}", endpoint=f"fake://n{number}?create_ms=20"))
        load = Load(client)
        running = asyncio.create_task(load.run())
        for core in group:
            await asyncio.sleep(0.5)
            code = await asyncio.to_thread(core.stop)
            assert code == 0, core.log.read_text()[-2000:]
            alone = load.done["deploy"] + 10
            async with asyncio.timeout(60):
                while load.done["deploy"] < alone:  # noqa: ASYNC110 - the load goes on by itself
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(core.start)
        async with asyncio.timeout(60):
            while min(load.done.values()) < 20:  # noqa: ASYNC110 - the load goes on by itself
                await asyncio.sleep(0.02)
        load.going = False
        await running
        assert load.failures == []
        assert await listed(client) == []
        for number in range(4):
            _, usage, diffs = await books(client, f"n{number}")
            assert usage["memory"] == 0
            assert diffs == []


async def test_two_cores_at_the_limit_never_give_out_more_than_there_is(cores: Cores) -> None:
    group = cores(2)
    async with connect(group[0].address, world=WORLD) as one, connect(group[1].address, world=WORLD) as other:
        await one.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
        for number in range(3):
            await one.unary(rpc.AddNode, node_options(f"n{number}", memory=5 * 64 * MB))

        async def attempt(client: CoreClient) -> tuple[int, str]:
            try:
                made = await deployed(client, deploy_options("full", 1, memory=64 * MB))
            except EruError as error:
                return 0, str(error)
            return sum(message.success for message in made), "".join(message.error for message in made)

        results = await asyncio.gather(*(attempt(client) for _ in range(15) for client in (one, other)))
        assert sum(count for count, _ in results) == 15, results
        refusals = [said for count, said in results if not count]
        assert len(refusals) == 15
        assert all("memory" in said or "not enough" in said or "insufficient" in said for said in refusals), refusals
        workloads = await listed(other)
        assert len(workloads) == 15
        for number in range(3):
            capacity, usage, diffs = await books(other, f"n{number}")
            assert usage["memory"] == capacity["memory"]
            assert all("inspect failed" in diff for diff in diffs)  # each process has fake engines of its own
            assert sum(workload.nodename == f"n{number}" for workload in workloads) == 5


async def test_what_a_killed_core_left_is_cleaned_up_by_another(cores: Cores, docker_endpoint: str) -> None:
    """On real Docker, the engine that both cores share."""
    group = cores(2)
    cluster = group[0].settings["identifier"]

    def containers() -> set[str]:
        command = [
            "docker",
            "-H",
            docker_endpoint,
            "ps",
            "-aq",
            "--no-trunc",
            "--filter",
            f"label=eru.coreid={cluster}",
        ]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    try:
        async with connect(group[0].address, world=WORLD) as doomed, connect(group[1].address, world=WORLD) as other:
            await other.unary(rpc.AddPod, pb.AddPodOptions(name=POD))
            await other.unary(rpc.AddNode, node_options("docker", endpoint=docker_endpoint, memory=8 << 30))
            kept = await deployed(other, deploy_options("kept", 1, memory=16 * MB))
            assert [message.error for message in kept] == [""]
            deploying = asyncio.create_task(deployed(doomed, deploy_options("crash", MANY, memory=16 * MB)))
            async with asyncio.timeout(60):
                while len(await asyncio.to_thread(containers)) < 4:  # noqa: ASYNC110 - Docker tells nobody
                    await asyncio.sleep(0.02)
            group[0].kill()
            with pytest.raises(EruError):
                await deploying
            async with asyncio.timeout(60):
                while True:
                    recorded = {workload.id for workload in await listed(other)}
                    _, usage, diffs = await books(other, "docker")
                    agreed = recorded == await asyncio.to_thread(containers) and not diffs
                    if agreed and usage["memory"] == len(recorded) * 16 * MB:
                        break
                    await asyncio.sleep(0.2)
            await first_with(other, {group[1].address})
            assert kept[0].id in recorded
            assert len(recorded) <= MANY, "the deploy was over before the core was killed"
            assert all(message.success for message in await removed(other, list(recorded)))
            assert await asyncio.to_thread(containers) == set()
    finally:
        if left := containers():
            subprocess.run(["docker", "-H", docker_endpoint, "rm", "-f", *left], capture_output=True, check=False)  # noqa: ASYNC221
