"""Every engine passes the same checks: the fake one, and real Docker over its socket and over TLS."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from eru.engine.conformance import CHECKS, Bench, Check
from eru.engine.contract import Engine
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.nodes import NodeTLS
from support.docker import ExtraDocker, extra_docker, limits_here

each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.fixture(scope="session")
def second_docker(docker_endpoint: str) -> Iterator[ExtraDocker]:
    base = Path(tempfile.mkdtemp(prefix="eru-d-"))
    with extra_docker(base, "bb", Path(docker_endpoint.removeprefix("unix://"))) as docker:
        yield docker


async def bench_on(endpoint: str, tls: NodeTLS | None = None) -> AsyncIterator[Bench]:
    world = real_world()
    pool = EnginePool(world, engine_factories(fakes=FakeCluster()), PoolSettings(limits=limits_here()))
    try:
        engine: Engine = await pool.get("tests", endpoint, tls)
        await engine.ping()
        yield Bench(world, engine, image="bb", prefix=f"conf{world.hex(6)}")
    finally:
        await pool.close()


@pytest.fixture
async def fake() -> AsyncIterator[Bench]:
    async for bench in bench_on("fake://tests"):
        yield bench


@pytest.fixture
async def over_socket(docker_endpoint: str) -> AsyncIterator[Bench]:
    async for bench in bench_on(docker_endpoint):
        yield bench


@pytest.fixture
async def over_tls(second_docker: ExtraDocker) -> AsyncIterator[Bench]:
    async for bench in bench_on(second_docker.tls_endpoint, second_docker.tls):
        yield bench


@each_check
async def test_fake(fake: Bench, check: Check) -> None:
    await check(fake)


@pytest.mark.docker
@each_check
async def test_docker_over_its_socket(over_socket: Bench, check: Check) -> None:
    await check(over_socket)


@pytest.mark.docker
@each_check
async def test_docker_over_tls(over_tls: Bench, check: Check) -> None:
    await check(over_tls)
