"""What goes wrong on the way to Docker, and what the user reads then."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eru.engine.contract import CreateSpec, Engine, EngineLimits
from eru.engine.docker import DockerSettings
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.deploy import LogConfig
from eru.model.errors import EngineOutcomeUnknown, EngineRefused, EngineUnreachable
from eru.model.nodes import NodeTLS
from support.docker import ExtraDocker, extra_docker, free_port, limits_here, make_certificates

pytestmark = pytest.mark.docker

OTHERS = make_certificates()


@pytest.fixture(scope="module")
def docker(docker_endpoint: str) -> Iterator[ExtraDocker]:
    """Its certificate is for another host name than it is reached at."""
    base = Path(tempfile.mkdtemp(prefix="eru-t-"))
    source = Path(docker_endpoint.removeprefix("unix://"))
    with extra_docker(base, "bb", source, make_certificates("elsewhere.example.com")) as docker:
        yield docker


@asynccontextmanager
async def opened(
    endpoint: str,
    tls: NodeTLS | None = None,
    *,
    settings: DockerSettings | None = None,
    limits: EngineLimits | None = None,
    connect_timeout_s: float = 5.0,
) -> AsyncIterator[Engine]:
    pool = EnginePool(
        real_world(),
        engine_factories(settings),
        PoolSettings(connect_timeout_s=connect_timeout_s, limits=limits or limits_here()),
    )
    try:
        async with pool.private(endpoint, tls) as engine:
            yield engine
    finally:
        await pool.close()


async def refused(endpoint: str, tls: NodeTLS | None = None, connect_timeout_s: float = 5.0) -> str:
    with pytest.raises(EngineUnreachable) as caught:
        async with opened(endpoint, tls, connect_timeout_s=connect_timeout_s):
            pass
    return str(caught.value)


async def test_no_socket_and_nobody_listening() -> None:
    assert "there is no Docker socket at /no/such.sock: start Docker" in await refused("unix:///no/such.sock")
    port = free_port()
    assert f"nothing listens at 127.0.0.1:{port}" in await refused(f"tcp://127.0.0.1:{port}")
    assert "has no known address" in await refused("tcp://no-such-host.invalid:2375")


async def test_no_permission_on_the_socket(docker_endpoint: str) -> None:
    """As root every socket may be opened, so another user asks."""
    code = (
        "import asyncio, os, sys\n"
        "from eru.engine.open import engine_factories\n"
        "from eru.engine.pool import EnginePool\n"
        "from eru.lib.world import real_world\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "async def main():\n"
        "    pool = EnginePool(real_world(), engine_factories())\n"
        "    try:\n"
        f"        async with pool.private({docker_endpoint!r}): pass\n"
        "    except Exception as error: print(error)\n"
        "asyncio.run(main())\n"
    )
    assert os.geteuid() == 0, "the Docker suites run as root"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert b"no permission on the Docker socket" in said
    assert b"root" in said


async def test_something_else_than_docker_answers() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "is not Docker" in await refused(f"tcp://127.0.0.1:{port}")
        assert "does not speak TLS" in await refused(f"tcp://127.0.0.1:{port}", OTHERS.client)


async def test_somebody_who_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = await refused(f"tcp://127.0.0.1:{silent.getsockname()[1]}", connect_timeout_s=0.3)
        assert "no answer within 0.3 s" in text or "did not answer in time" in text


async def test_certificates_are_verified(docker: ExtraDocker) -> None:
    text = await refused(docker.tls_endpoint, docker.tls)
    assert "is not for '127.0.0.1'" in text
    assert "docker.tls_check_hostname" in text
    assert "not signed by the node's ca" in await refused(docker.tls_endpoint, OTHERS.client)
    stranger = NodeTLS(ca=docker.tls.ca, cert=OTHERS.client.cert, key=OTHERS.client.key)
    with pytest.raises(EngineUnreachable, match="refuses our certificate"):
        async with opened(docker.tls_endpoint, stranger, settings=DockerSettings(tls_check_hostname=False)):
            pass
    assert "wants TLS" in await refused(docker.tls_endpoint)


async def test_a_site_without_names_in_its_certificates_can_say_so(docker: ExtraDocker) -> None:
    async with opened(docker.tls_endpoint, docker.tls, settings=DockerSettings(tls_check_hostname=False)) as engine:
        assert (await engine.info()).type == "docker"


async def test_certificates_that_are_none() -> None:
    good = OTHERS.client
    for tls, word in (
        (NodeTLS(ca=good.ca), "cert and key missing"),
        (NodeTLS(ca="gärbage", cert=good.cert, key=good.key), "ca is not a PEM"),
        (NodeTLS(ca="garbage", cert=good.cert, key=good.key), "ca is not a PEM"),
        (NodeTLS(ca=good.ca, cert="garbage", key=good.key), "not a PEM pair"),
        (NodeTLS(ca=good.ca, cert=good.cert, key=make_certificates().client.key), "not a PEM pair"),
    ):
        text = await refused("tcp://127.0.0.1:1", tls)
        assert word in text
        assert "PRIVATE KEY" not in text


async def failure(pool: EnginePool, endpoint: str) -> str:
    with pytest.raises(EngineUnreachable) as caught:
        await (await pool.get("n1", endpoint)).info()
    return str(caught.value)


async def test_a_docker_that_dies_and_comes_back(docker: ExtraDocker) -> None:
    pool = EnginePool(
        real_world(),
        engine_factories(),
        PoolSettings(retry_first_s=0.05, retry_most_s=0.2, ping_every_s=0, limits=limits_here()),
    )
    try:
        engine = await pool.get("n1", docker.unix_endpoint)
        await engine.ping()
        docker.kill()
        with pytest.raises((EngineUnreachable, EngineOutcomeUnknown)):
            await engine.start("some")
        texts = [await failure(pool, docker.unix_endpoint) for _ in range(3)]
        assert f"engine of node n1 at {docker.unix_endpoint} is unreachable" in texts[-1]
        docker.start()
        async with asyncio.timeout(60):
            while pool.unreachable_nodes():  # noqa: ASYNC110 - the pool has no event for it
                await asyncio.sleep(0.05)
        assert (await (await pool.get("n1", docker.unix_endpoint)).info()).type == "docker"
    finally:
        await pool.close()


async def test_too_many_open_files_are_explained(docker_endpoint: str) -> None:
    """Far above what any kernel allows, so that it is refused everywhere."""
    limits = EngineLimits(nofile_soft=2_000_000_000, nofile_hard=2_000_000_000)
    async with opened(docker_endpoint, limits=limits) as engine:
        created = await engine.create(
            CreateSpec(name=f"nofile_x_{os.getpid()}", image="bb", commands=["true"], networks={"none": ""})
        )
        try:
            with pytest.raises(EngineRefused, match=r"refused ulimit nofile=2000000000: .*docker\.nofile"):
                await engine.start(created.id)
        finally:
            await engine.remove(created.id, force=True)


async def test_what_docker_refuses_is_said_with_the_next_step(docker_endpoint: str) -> None:
    async with opened(docker_endpoint) as engine:

        async def attempt(**spec: Any) -> None:
            name = f"refused_x_{os.getpid()}"
            created = await engine.create(CreateSpec(name=name, image="bb", networks={"none": ""}, **spec))
            try:
                await engine.start(created.id)
            finally:
                await engine.remove(created.id, force=True)

        async def message(**spec: Any) -> str:
            with pytest.raises(EngineRefused) as caught:
                await attempt(**spec)
            return str(caught.value)

        async with opened(docker_endpoint) as other:
            silent = CreateSpec(
                name=f"silent_x_{os.getpid()}", image="bb", commands=["true"], log=LogConfig(type="none")
            )
            created = await other.create(silent)
            with pytest.raises(EngineRefused, match="keeps none"):
                _ = [chunk async for chunk in other.logs(created.id)]
            await other.remove(created.id, force=True)
        assert "the image has no program 'nothing'" in await message(commands=["nothing"])
        text = await message(commands=["true"], params={"cpumem": {"cpu": 1, "cpu_map": {"900": 100}}})
        assert "refused CPU cores 900" in text
        assert "ask for more" in await message(commands=["true"], params={"cpumem": {"memory": 1 << 20}})
