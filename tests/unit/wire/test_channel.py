"""Our client: addresses, failover, discovery, what is repeated and what never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from eru.lib.world import real_world
from eru.model.errors import CoreUnreachable, InvalidInput, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.channel import auth_metadata, connect, parse_addresses
from eru.wire.routes import Call, stream, unary
from eru.wire.server import RpcServer, ServerSettings
from support.ports import free_port

WORLD = real_world()


@pytest.mark.parametrize(
    ("given", "plain", "discover"),
    [
        (["127.0.0.1:5001"], ["127.0.0.1:5001"], False),
        (["a:1,b:2", "a:1"], ["a:1", "b:2"], False),
        (["eru://a:1"], ["a:1"], True),
        (["eru://a:1,b:2/"], ["a:1", "b:2"], True),
        (["static://_/a:1,b:2"], ["a:1", "b:2"], False),
        (["unix:/run/core.sock"], ["unix:/run/core.sock"], False),
        (["[::1]:5001"], ["[::1]:5001"], False),
    ],
)
def test_addresses(given: list[str], plain: list[str], discover: bool) -> None:
    assert parse_addresses(given) == (plain, discover)


@pytest.mark.parametrize("given", [[], [""], ["nothing"], ["http://a:1"], ["a:b"], ["a:1,,"], ["a:1 b:2"]])
def test_bad_addresses(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="address"):
        parse_addresses(given)


def test_bad_credentials() -> None:
    assert auth_metadata("Admin", "pw") == (("admin", "pw"),)
    for username, password in (("a b", "x"), ("grpc-x", "x"), ("a", "ü"), ("a", "x\n")):
        with pytest.raises(InvalidInput):
            auth_metadata(username, password)


class Core:
    """A server that tells its name and counts."""

    def __init__(self, name: str, error: grpc.StatusCode | None = None) -> None:
        self.name = name
        self.calls = 0
        self.announced: list[str] = []
        routes = [
            unary(rpc.GetPod, self.get),
            unary(rpc.AddPod, self.add),
            stream(rpc.WatchServiceStatus, self.watch),
        ]
        self.server = RpcServer(WORLD, ServerSettings(bind="127.0.0.1:0", drain_s=0.1), routes)

    async def get(self, request: pb.GetPodOptions, call: Call) -> pb.Pod:
        self.calls += 1
        return pb.Pod(name=self.name)

    async def add(self, request: pb.AddPodOptions, call: Call) -> pb.Pod:
        self.calls += 1
        return pb.Pod(name=self.name)

    async def watch(self, request: pb.Empty, call: Call) -> AsyncIterator[pb.ServiceStatus]:
        yield pb.ServiceStatus(addresses=self.announced, interval_in_second=1)
        await asyncio.Event().wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@pytest.fixture
async def cores() -> AsyncIterator[list[Core]]:
    made = [Core("one"), Core("two")]
    for core in made:
        await core.server.start()
    yield made
    for core in made:
        await core.server.drain()


async def test_calls_go_round(cores: list[Core]) -> None:
    async with connect([core.address for core in cores], world=WORLD) as client:
        names = set()
        async with asyncio.timeout(60):  # else only one of two cores is ever asked
            while len(names) < 2:
                names.add((await client.unary(rpc.GetPod, pb.GetPodOptions())).name)


async def test_a_dead_core_is_passed_over_even_by_calls_that_change_something(cores: list[Core]) -> None:
    async with connect([f"127.0.0.1:{free_port()}", cores[0].address], world=WORLD) as client:
        for _ in range(6):
            assert (await client.unary(rpc.AddPod, pb.AddPodOptions())).name == "one"
    assert cores[0].calls == 6


async def test_no_core_at_all_names_the_addresses() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with connect(address, world=WORLD, connect_timeout_s=2) as client:
        with pytest.raises(CoreUnreachable, match=address) as caught:
            await client.unary(rpc.GetPod, pb.GetPodOptions())
        with pytest.raises(CoreUnreachable):
            await anext(client.stream(rpc.WatchServiceStatus, pb.Empty()))
    assert caught.value.temporary


async def test_a_core_that_goes_away_and_comes_back_is_used_again(cores: list[Core]) -> None:
    async with connect([core.address for core in cores], world=WORLD) as client:
        await cores[0].server.drain()
        for _ in range(5):
            assert (await client.unary(rpc.GetPod, pb.GetPodOptions())).name == "two"


async def test_discovery_follows_the_announced_cores(cores: list[Core]) -> None:
    cores[0].announced = [core.address for core in cores]
    async with connect(f"eru://{cores[0].address}", world=WORLD) as client:
        async with asyncio.timeout(60):  # else the announced core is never used
            while client.addresses != cores[0].announced or not cores[1].calls:
                await client.unary(rpc.GetPod, pb.GetPodOptions())


class Dropper:
    """Accepts HTTP/2 connections far enough for a request to be sent, then hangs up."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # our SETTINGS
        await reader.readexactly(24)
        try:
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == 4 and not head[4] & 1:
                    writer.write(b"\x00\x00\x00\x04\x01\x00\x00\x00\x00")  # SETTINGS acknowledged
                if head[3] == 0:
                    self.requests += 1
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@pytest.mark.parametrize("safe", [True, False])
async def test_only_safe_calls_are_repeated_once_they_were_sent(safe: bool) -> None:
    dropper = Dropper()
    server = await asyncio.start_server(dropper, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, connect(address, world=WORLD) as client:
        reading = client.unary(rpc.GetPod, pb.GetPodOptions(name="p"), timeout_s=10)
        writing = client.unary(rpc.AddPod, pb.AddPodOptions(name="p"), timeout_s=10)
        (writing if safe else reading).close()
        with pytest.raises(RemoteError):
            await (reading if safe else writing)
    assert dropper.requests > 1 if safe else dropper.requests == 1
