"""A client without a terminal says so, and the handler learns it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import connect
from eru.wire.routes import Call, both
from eru.wire.server import RpcServer, ServerSettings


async def test_no_terminal_is_told() -> None:
    async def tell(
        requests: AsyncIterator[pb.ExecuteWorkloadOptions], call: Call
    ) -> AsyncGenerator[pb.AttachWorkloadMessage, None]:
        yield pb.AttachWorkloadMessage(data=str(call.tty).encode())

    async def requests() -> AsyncIterator[pb.ExecuteWorkloadOptions]:
        yield pb.ExecuteWorkloadOptions()

    world = real_world()
    server = RpcServer(world, ServerSettings(bind="127.0.0.1:0", drain_s=0.1), [both(rpc.ExecuteWorkload, tell)])
    await server.start()
    try:
        async with connect(f"127.0.0.1:{server.port}", world=world, username="u", password="p") as client:
            for tty in (True, False):
                answers = [answer.data async for answer in client.both(rpc.ExecuteWorkload, requests(), tty=tty)]
                assert answers == [str(tty).encode()]
    finally:
        await server.drain()
