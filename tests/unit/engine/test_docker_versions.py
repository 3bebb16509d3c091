"""Which version of Docker's API is spoken, with daemons older and newer than this adapter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from eru.engine.docker import DockerSettings
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import real_world
from eru.model.errors import EngineUnreachable


@asynccontextmanager
async def daemon(newest: str, least: str, asked: list[str]) -> AsyncIterator[str]:
    """A Docker that has no images, refuses versions below `least`, and notes in `asked` those that came."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/_ping":
            return web.Response(text="OK", headers={"Api-Version": newest} if newest else {})
        if request.path == "/version":
            return web.json_response({"ApiVersion": newest, "MinAPIVersion": least})
        found = re.match(r"/v(\d+)\.(\d+)/", request.path)
        assert found is not None
        version = f"{found[1]}.{found[2]}"
        asked.append(version)
        if (int(found[1]), int(found[2])) < tuple(int(part) for part in least.split(".")):
            said = f"client version {version} is too old. Minimum supported API version is {least}"
            return web.json_response({"message": said}, status=400)
        return web.json_response([])

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"tcp://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def version_spoken(newest: str, least: str) -> str:
    asked: list[str] = []
    async with daemon(newest, least, asked) as endpoint:
        pool = EnginePool(real_world(), engine_factories(DockerSettings()), PoolSettings())
        try:
            async with pool.private(endpoint) as engine:
                assert await engine.images() == []
                await engine.ping()
                assert await engine.images() == []
        finally:
            await pool.close()
    assert len(set(asked)) == 1
    return asked[0]


@pytest.mark.parametrize(
    ("newest", "least", "spoken"),
    [
        ("1.41", "1.12", "1.41"),  # Docker 20.10
        ("1.47", "1.24", "1.47"),
        ("1.52", "1.44", "1.47"),  # Docker 29
        ("1.60", "1.50", "1.50"),  # one day
    ],
)
async def test_a_version_that_both_know(newest: str, least: str, spoken: str) -> None:
    assert await version_spoken(newest, least) == spoken


@pytest.mark.parametrize("newest", ["", "newest"])
async def test_what_tells_no_version_is_not_docker(newest: str) -> None:
    with pytest.raises(EngineUnreachable, match="is not Docker: correct the endpoint"):
        await version_spoken(newest, "1.24")
