"""What a deploy asks of Docker really holds inside the container."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eru.engine.contract import CreateSpec, Engine, EngineLimits, Inspection
from eru.engine.docker import DockerSettings
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.errors import EngineRefused
from support.docker import ask, limits_here
from support.ports import free_port

pytestmark = pytest.mark.docker

MiB = 1 << 20
NETWORK = f"erut{os.getpid()}"


@pytest.fixture
async def engine(docker_endpoint: str) -> AsyncIterator[Engine]:
    async with engine_on(docker_endpoint, limits_here()) as engine:
        yield engine


@asynccontextmanager
async def engine_on(
    endpoint: str, limits: EngineLimits, settings: DockerSettings | None = None
) -> AsyncIterator[Engine]:
    pool = EnginePool(real_world(), engine_factories(settings), PoolSettings(limits=limits))
    try:
        async with pool.private(endpoint) as engine:
            yield engine
    finally:
        await pool.close()


@pytest.fixture
def networks(docker_endpoint: str) -> Iterator[list[str]]:
    """A bridge and a macvlan network with subnets of their own."""
    path = Path(docker_endpoint.removeprefix("unix://"))
    parent = f"erum{os.getpid()}"
    ip("link", "add", parent, "type", "veth", "peer", "name", f"{parent}p")
    names = [f"{NETWORK}bridge", f"{NETWORK}macvlan"]
    try:
        for number, name in enumerate(names):
            body: dict[str, Any] = {
                "Name": name,
                "Driver": name.removeprefix(NETWORK),
                "IPAM": {"Config": [{"Subnet": f"10.19{number}.{os.getpid() % 250}.0/24"}]},
                "Options": {"parent": parent} if number else {},
            }
            status, answer = ask(path, "POST", "/networks/create", json.dumps(body).encode(), "application/json")
            assert status == 201, answer
        yield names
    finally:
        for name in names:
            ask(path, "DELETE", f"/networks/{name}")
        ip("link", "del", parent)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, env={"PATH": f"{os.environ['PATH']}:/sbin"})


@asynccontextmanager
async def running(engine: Engine, **more: Any) -> AsyncIterator[Inspection]:
    spec = {"commands": ["sleep", "1000"], "networks": {"none": ""}, **more}
    name = f"create_x_{real_world().letters(6)}"
    created = await engine.create(CreateSpec(name=name, image="bb", **spec))
    try:
        await engine.start(created.id)
        yield await engine.inspect(created.id)
    finally:
        await engine.remove(created.id, force=True)


async def said(engine: Engine, id: str, script: str) -> str:
    session = await engine.exec(id, ["sh", "-c", script])
    text = b"".join([chunk.data async for chunk in session])
    await session.close()
    return text.decode().strip()


async def told(endpoint: str, id: str, key: str) -> Any:
    """What Docker keeps under `key` of the container's HostConfig."""
    status, answer = await asyncio.to_thread(
        ask, Path(endpoint.removeprefix("unix://")), "GET", f"/containers/{id}/json"
    )
    assert status == 200, answer
    return json.loads(answer)["HostConfig"][key]


async def memory_limit(engine: Engine, id: str) -> str:
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    return await said(engine, id, f"for f in {files}; do [ -f $f ] && cat $f; done; true")


async def cpu_quota(engine: Engine, id: str) -> str:
    files = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max"
    text = await said(engine, id, f"for f in {files}; do [ -f $f ] && cat $f; done; true")
    return text.split()[0]


async def test_limits_hold_and_change_live(engine: Engine) -> None:
    async with running(engine, params={"cpumem": {"cpu": 0.5, "memory": 32 * MiB}}) as found:
        assert await memory_limit(engine, found.id) == str(32 * MiB)
        assert await cpu_quota(engine, found.id) == "50000"
        pid = found.pid
        await engine.update(found.id, {"cpumem": {"cpu": 1.5, "cpu_map": {}, "memory": 64 * MiB}})
        assert await memory_limit(engine, found.id) == str(64 * MiB)
        assert await cpu_quota(engine, found.id) == "150000"
        await engine.update(found.id, {"cpumem": {"cpu": 1, "cpu_map": {"0": 100}, "memory": 48 * MiB}})
        assert await said(engine, found.id, "grep Cpus_allowed_list /proc/self/status") == "Cpus_allowed_list:\t0"
        assert await cpu_quota(engine, found.id) in ("-1", "max")
        await engine.update(found.id, {"cpumem": {"cpu": 0.25, "cpu_map": {"0": 100}, "remap": True}})
        assert await cpu_quota(engine, found.id) == "25000"
        assert await memory_limit(engine, found.id) == str(48 * MiB)
        await engine.update(found.id, {"cpumem": {"cpu": 0, "cpu_map": {}, "memory": 0}})
        assert await cpu_quota(engine, found.id) in ("-1", "max")
        limit = await memory_limit(engine, found.id)
        assert limit == "max" or int(limit) > 1 << 50
        assert (await engine.inspect(found.id)).pid == pid, "nothing was restarted"


async def test_a_start_burst_ends_with_the_start(docker_endpoint: str) -> None:
    settings = DockerSettings(start_burst_cpu=1.0)
    async with engine_on(docker_endpoint, limits_here(), settings) as engine:
        async with running(engine, params={"cpumem": {"cpu": 0.05, "memory": 32 * MiB}}) as found:
            assert await cpu_quota(engine, found.id) == "5000"
        async with running(engine, params={"cpumem": {"cpu": 1.5}}) as found:
            assert await cpu_quota(engine, found.id) == "150000"


async def test_user_directory_volumes_and_raw_args(docker_endpoint: str, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside")
    volumes = [f"{tmp_path}:/mounted", f"{tmp_path}:/again:ro"]
    raw = {"cap_drop": ["CHOWN"], "ulimits": [{"Name": "nofile", "Soft": 77, "Hard": 88}], "pid_mod": "host"}
    async with running(
        engine, dir="/tmp", user="0:34", params={"storage": {"volumes": volumes}}, raw_args=raw
    ) as found:
        assert await said(engine, found.id, "pwd; id -u; id -g; cat /mounted/in") == "/tmp\n0\n34\nfrom outside"
        assert "Read-only" in await said(engine, found.id, "touch /again/x 2>&1")
        # Not the soft limit: a process that `runc exec` starts now and then has the hard one for both
        # (opencontainers/runc#4195), so of the soft one it is shown that Docker was told it.
        assert await said(engine, found.id, "ulimit -Hn") == "88"
        assert await told(docker_endpoint, found.id, "Ulimits") == raw["ulimits"]
        assert int(await said(engine, found.id, "echo /proc/[0-9]* | wc -w")) > 3, "the machine's processes are seen"
        effective = int((await said(engine, found.id, "grep CapBnd /proc/1/status")).split()[1], 16)
        own = int((await said(engine, found.id, "grep CapBnd /proc/self/status")).split()[1], 16)
        assert effective != own
        assert own & 1 == 0, "CAP_CHOWN is gone"


async def test_devices_as_docker_is_told_of_them(docker_endpoint: str, engine: Engine) -> None:
    """Created and never started: that takes no GPU."""
    ask = {"Driver": "nvidia", "DeviceIDs": ["0", "2"], "Capabilities": [["gpu"]]}
    created = await engine.create(
        CreateSpec(name=f"erut_gpu_{os.getpid()}", image="bb", commands=["true"], raw_args={"device_requests": [ask]})
    )
    try:
        [request] = await told(docker_endpoint, created.id, "DeviceRequests")
        assert request == {**ask, "Count": 0, "Options": {}}
    finally:
        await engine.remove(created.id, force=True)


async def test_several_networks_with_fixed_addresses(engine: Engine, networks: list[str]) -> None:
    bridge, macvlan = networks
    subnets = {network.name: network.subnets[0] for network in await engine.networks() if network.name in networks}
    wanted = {name: subnets[name].replace(".0/24", ".77") for name in networks}
    async with running(engine, networks=wanted) as found:
        assert found.networks == wanted
        await engine.disconnect_network(macvlan, found.id)
        assert set((await engine.inspect(found.id)).networks) == {bridge}
        other = wanted[macvlan].replace(".77", ".78")
        assert await engine.connect_network(macvlan, found.id, other) == [other]
        with pytest.raises(EngineRefused):
            await engine.connect_network(macvlan, found.id, other)
    assert [network.name for network in await engine.networks("macvlan") if network.name in networks] == [macvlan]


async def test_a_workload_whose_second_network_fails_is_not_left(engine: Engine, networks: list[str]) -> None:
    wrong = {networks[0]: "", "zz-no-such-network": ""}
    before = {row.id for row in await engine.find({})}
    with pytest.raises(Exception, match="zz-no-such-network"):
        async with running(engine, networks=wrong):
            pass
    assert {row.id for row in await engine.find({})} <= before


async def test_a_published_port_can_be_had_once(engine: Engine) -> None:
    port = str(free_port())
    more = {"networks": {"bridge": ""}, "publish": [port]}
    async with running(engine, **more) as found:
        assert found.networks["bridge"]
        with pytest.raises(EngineRefused, match=f"{port} failed|{port}: the port is already in use"):
            async with running(engine, **more):
                pass


async def test_host_network_shows_the_node_address(docker_endpoint: str, engine: Engine) -> None:
    async with running(engine, networks={"host": ""}) as found:
        assert found.networks == {"host": "127.0.0.1"}


async def test_twenty_starts_at_once_are_bounded(docker_endpoint: str) -> None:
    """More parallel starts than the limit allows all end well."""
    async with engine_on(docker_endpoint, limits_here(start_parallel_max=3)) as engine:

        async def one() -> bool:
            async with running(engine, networks={"host": ""}) as found:
                return found.running

        assert all(await asyncio.gather(*(one() for _ in range(20))))
