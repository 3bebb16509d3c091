"""The HTTP port of a core process while it shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import grpc

from eru.config import CoreConfig
from eru.roots.core import serving
from eru.wire import core_pb2 as pb
from eru.wire.core_pb2_grpc import CoreRPCStub
from support.docker import free_port

WAIT_S = 60.0


async def test_who_balances_load_sees_a_core_that_drains() -> None:
    config = CoreConfig(
        bind=f"127.0.0.1:{free_port()}", profile=f"127.0.0.1:{free_port()}", store="memory", drain=WAIT_S
    )
    leave = asyncio.Event()

    async def run() -> None:
        async with serving(config):
            await leave.wait()

    async def slow() -> AsyncIterator[pb.FileOptions]:
        yield pb.FileOptions(
            ids=["x"], dst="/x", size=2, chunk=b"1", mode=pb.FileMode(mode=0o644), owner=pb.FileOwner()
        )
        await asyncio.Event().wait()

    core = asyncio.create_task(run())
    async with aiohttp.ClientSession() as http, grpc.aio.insecure_channel(config.bind) as channel:

        async def answered(path: str) -> int:
            try:
                async with http.get(f"http://{config.profile}{path}") as answer:
                    return answer.status
            except aiohttp.ClientConnectorError:
                return 0

        async def until(status: int) -> None:
            while (found := await answered("/readyz")) != status:
                assert found in (0, 200, 503)
                await asyncio.sleep(0.02)

        async with asyncio.timeout(WAIT_S):
            await until(200)
            call = CoreRPCStub(channel).SendLargeFile(slow())
            assert (await call.read()).error
            leave.set()
            await until(503)
            assert await answered("/healthz") == 200
            assert await answered("/metrics") == 200
            call.cancel()
            await core
        assert await answered("/healthz") == 0
