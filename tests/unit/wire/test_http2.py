"""The server's HTTP/2: what other clients than grpc's own may do, and what nobody may do."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import h2.exceptions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import limits
from eru.wire import methods as rpc
from eru.wire.methods import Method
from eru.wire.routes import Call, Route, both, stream, unary
from eru.wire.server import RpcServer, ServerSettings
from support.http2_client import PREFACE, Client, Raw, frame, grpc_message
from support.http2_client import settings as settings_frame

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
PROTOCOL, FLOW, FRAME_SIZE, COMPRESSION, CALM = 1, 3, 6, 9, 11
POD = grpc_message(pb.GetPodOptions(name="p").SerializeToString())


async def echo(request: pb.GetPodOptions, call: Call) -> pb.Pod:
    return pb.Pod(name=request.name, desc=call.trace)


async def many(request: pb.ListNodesOptions, call: Call) -> AsyncIterator[pb.Node]:
    for number in range(200):
        yield pb.Node(name=f"n{number}", info="x" * 10_000)


async def for_ever(request: pb.LogStreamOptions, call: Call) -> AsyncIterator[pb.LogStreamMessage]:
    await asyncio.Event().wait()
    yield pb.LogStreamMessage()


async def sizes(requests: AsyncIterator[pb.FileOptions], call: Call) -> AsyncIterator[pb.SendMessage]:
    async for request in requests:
        yield pb.SendMessage(id=str(len(request.chunk)))


async def stuck(requests: AsyncIterator[pb.RunAndWaitOptions], call: Call) -> AsyncIterator[pb.AttachWorkloadMessage]:
    await asyncio.Event().wait()
    yield pb.AttachWorkloadMessage()


ROUTES: tuple[Route, ...] = (
    unary(rpc.GetPod, echo),
    stream(rpc.ListPodNodes, many),
    stream(rpc.LogStream, for_ever),
    both(rpc.SendLargeFile, sizes),
    both(rpc.RunAndWait, stuck),
)


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    options = ServerSettings(bind="127.0.0.1:0", drain_s=0.5, message_bytes_max=1 << 20)
    running = RpcServer(real_world(), options, ROUTES)
    await running.start()
    try:
        yield running
        async with Client(running.port) as client:  # whatever happened, it serves the next one
            assert await pod(client) == "p"
        assert not running.calls(), "a call was left behind"
    finally:
        await running.drain()


async def pod(client: Client, message: bytes = POD, *metadata: tuple[str, str]) -> str:
    call = client.ask(rpc.GetPod.path, *metadata)
    client.say(call, message)
    answer = await client.answer(call)
    assert (answer.headers[":status"], answer.status) == ("200", "0"), (answer.headers, answer.trailers)
    return pb.Pod.FromString(answer.data[5:]).name


async def refused(server: RpcServer, *data: bytes) -> tuple[int, str]:
    """What the connection ends with: HTTP/2's code and the server's words."""
    async with Raw(server.port) as raw:
        raw.send(PREFACE, settings_frame(), *data)
        heard = await raw.closed()
    at = 0
    while at + 9 <= len(heard):
        length = int.from_bytes(heard[at : at + 3], "big")
        if heard[at + 3] == GOAWAY:
            body = heard[at + 9 : at + 9 + length]
            return int.from_bytes(body[4:8], "big"), body[8:].decode()
        at += 9 + length
    raise AssertionError(f"no GOAWAY in {heard!r}")


# What is allowed.


async def test_calls_one_after_the_other_and_at_once(server: RpcServer) -> None:
    async with Client(server.port) as client:
        for _ in range(3):
            assert await pod(client) == "p"
        calls = [client.ask(rpc.GetPod.path) for _ in range(50)]
        for call in calls:
            client.say(call, POD)
        assert {(await client.answer(call)).status for call in calls} == {"0"}


async def test_the_preface_in_single_bytes_and_padding_and_priority(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.GetPod.path)
        for byte in POD[:-1]:
            client.say(call, bytes((byte,)), end=False, pad=7)
        client.say(call, POD[-1:], pad=100)
        assert (await client.answer(call)).status == "0"
        client.h2.prioritize(call + 2, weight=3, depends_on=0, exclusive=True)
        assert await pod(client) == "p"
    async with Raw(server.port) as raw:
        for byte in PREFACE + settings_frame() + frame(PING, 0, 0, b"12345678"):
            raw.send(bytes((byte,)))
            await asyncio.sleep(0)
        await raw.hears(frame(PING, 1, 0, b"12345678"))


async def test_a_client_that_keeps_its_side_open_is_answered(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.GetPod.path)
        client.say(call, POD, end=False)
        answer = await client.answer(call)
    assert answer.status == "0"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_requests(server: RpcServer, encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](POD[5:])
    async with Client(server.port) as client:
        assert await pod(client, grpc_message(packed, 1), ("grpc-encoding", encoding)) == "p"


async def test_a_request_that_unpacks_to_too_much_is_refused(server: RpcServer) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    async with Client(server.port) as client:
        call = client.ask(rpc.GetPod.path, ("grpc-encoding", "gzip"))
        client.say(call, grpc_message(bomb, 1)[:16_384], end=False)
        for at in range(16_384, len(bomb) + 5, 16_384):
            client.say(call, grpc_message(bomb, 1)[at : at + 16_384], end=False)
        answer = await client.answer(call)
    assert answer.status == "8"


async def test_windows_of_the_client_are_kept(server: RpcServer) -> None:
    async with Client(server.port, reads=False, _4=1_000) as client:  # initial window of each stream
        call = client.ask(rpc.ListPodNodes.path)
        client.say(call, grpc_message(b""))
        found = client.answers[call]
        await client.until(lambda: len(found.data) >= 1_000)
        assert await pod(client) == "p"  # its own window: others are not held up
        for _ in range(300):
            client.h2.increment_flow_control_window(10_007)
            client.h2.increment_flow_control_window(10_007, stream_id=call)
        client.flush()
        await client.answer(call)
    assert (found.status, found.data.count(b"x" * 10_000)) == ("0", 200)


async def test_a_long_answer_with_a_window_update_for_each_frame(server: RpcServer) -> None:
    async with Client(server.port, _4=500) as client:
        call = client.ask(rpc.ListPodNodes.path)
        client.say(call, grpc_message(b""))
        assert (await client.answer(call)).status == "0"  # some 8,000 updates, none of them too many


async def test_both_sides_stream_while_the_other_does(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.SendLargeFile.path)
        for number in range(1, 4):
            chunk = grpc_message(pb.FileOptions(chunk=b"y" * 1_000 * number).SerializeToString())
            client.say(call, chunk, end=number == 3)
        answer = await client.answer(call)
    assert [text in answer.data for text in (b"1000", b"2000", b"3000")] == [True] * 3


async def test_binary_metadata_and_repeated_keys(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.GetPod.path, ("a-bin", "AAEC,_w"), ("b", "1"), ("b", "2"))
        client.say(call, POD)
        answer = await client.answer(call)
    assert answer.status == "0"


async def test_the_clients_deadline(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.LogStream.path, ("grpc-timeout", "50m"))
        client.say(call, grpc_message(b""))
        assert (await client.answer(call)).status == "4"


async def test_who_follows_for_long_may_leave_many_streams(server: RpcServer) -> None:
    async with Client(server.port) as client:
        for _ in range(900):
            call = client.ask(rpc.LogStream.path)
            client.say(call, grpc_message(b""))
            client.h2.reset_stream(call, 8)
        client.flush()
        assert await pod(client) == "p"


# What is wrong with one call: the connection lives on.


@pytest.mark.parametrize(
    ("metadata", "message", "status", "words"),
    [
        ((("grpc-timeout", "soon"),), POD, "13", "is not a time"),
        ((("grpc-encoding", "br"),), grpc_message(b"x", 1), "12", "not understood"),
        ((("grpc-encoding", "gzip"),), grpc_message(b"x", 1), "13", "cannot be read"),
        ((), b"", "13", "no message"),
        ((), POD[:4], "13", "inside a message"),
        ((), POD[:-1], "13", "inside a message"),
        ((), POD + POD, "12", "one message was expected"),
        ((), b"\0\xff\xff\xff\xff", "8", "larger than max"),
    ],
)
async def test_a_bad_call(
    server: RpcServer, metadata: tuple[tuple[str, str], ...], message: bytes, status: str, words: str
) -> None:
    async with Client(server.port) as client:
        call = client.ask(rpc.GetPod.path, *metadata)
        client.say(call, message)
        answer = await client.answer(call)
        told = answer.trailers.get("grpc-message") or answer.headers.get("grpc-message", "")
        assert answer.status == status, (answer.status, told)
        assert words in told
        assert await pod(client) == "p"


async def test_too_much_metadata_is_the_calls_own_trouble(server: RpcServer) -> None:
    async with Client(server.port) as client:
        big = "v" * (limits.METADATA_BYTES_MAX // 2)
        call = client.ask(rpc.GetPod.path, ("a", big), ("b", big), ("c", big), end=True)
        assert (await client.answer(call)).status == "8"
        assert await pod(client) == "p"


async def test_what_is_not_grpc_is_told_so(server: RpcServer) -> None:
    async with Client(server.port) as client:
        call = client.ask("/", content_type="text/html", end=True)
        assert (await client.answer(call)).headers[":status"] == "415"
        call = client.ask("/pb.CoreRPC/Nothing\xff", end=True)
        assert (await client.answer(call)).status == "12"
        assert await pod(client) == "p"


async def test_more_streams_than_allowed_are_refused_and_may_be_asked_again(server: RpcServer) -> None:
    async with Client(server.port) as client:
        calls = [client.ask(rpc.LogStream.path) for _ in range(limits.STREAMS_PER_CONNECTION_MAX)]
        await client.until(lambda: client.h2.remote_settings.max_concurrent_streams < 1_000)
        with pytest.raises(h2.exceptions.TooManyStreamsError):
            client.ask(rpc.GetPod.path)
        for call in calls:
            client.h2.reset_stream(call)
        client.flush()
        assert await pod(client) == "p"


# What ends the connection.

# Many more than allowed at once: each second that reading them takes forgives a thousand frames, a hundred calls.
_OPEN = frame(HEADERS, 4, 1, b"\x82")  # a call without a path, never finished


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(DATA, 0, 0, b"x"), PROTOCOL),
        (frame(DATA, 0, 7, b"x"), PROTOCOL),
        (frame(HEADERS, 4, 2, b"\x82"), PROTOCOL),
        (frame(HEADERS, 4, 0, b"\x82"), PROTOCOL),
        (frame(HEADERS, 0xC, 1, b"\x09\x82"), PROTOCOL),
        (frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, b"12345678"), PROTOCOL),
        (frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 4, 3, b"\x82"), PROTOCOL),
        (frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL),
        (frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"), COMPRESSION),
        (frame(HEADERS, 4, 1, b"\xfe"), COMPRESSION),
        (frame(HEADERS, 4, 1, b"\x40\x05ab"), COMPRESSION),
        (frame(HEADERS, 4, 1, b"\x3f\xff\xff\xff\x07"), COMPRESSION),
        (frame(HEADERS, 4, 1, b"\x00\x81\xff\x00"), COMPRESSION),
        (frame(PING, 0, 0, b"1234"), FRAME_SIZE),
        (frame(RST, 0, 1, b"1"), FRAME_SIZE),
        (frame(WINDOW, 0, 0, b"123"), FRAME_SIZE),
        (frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE),
        (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", FRAME_SIZE),
        (frame(WINDOW, 0, 0, b"\x00\x00\x00\x00"), FLOW),
        (frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), FLOW),
        (settings_frame(_4=1 << 31), FLOW),
        (settings_frame(_5=1), PROTOCOL),
        (frame(PUSH, 4, 1, b"\0\0\0\2\x82"), PROTOCOL),
        (frame(PING, 0, 0, b"12345678") * 40_000, CALM),
        (settings_frame() * 40_000, CALM),
        (frame(PRIORITY, 0, 1, b"12345") * 40_000, CALM),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 100, CALM),
        (frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"\x82" * 60_000) * 3, CALM),
    ],
)
async def test_what_no_client_may_do(server: RpcServer, data: bytes, code: int) -> None:
    found, words = await refused(server, data)
    assert (found, bool(words)) == (code, True), words


def _opening(method: Method[Any, Any], stream: int) -> bytes:
    """HEADERS of a call, packed without any table."""
    block = b"\x83\x86\x04" + bytes((len(method.path),)) + method.path.encode()
    return frame(HEADERS, 4, stream, block + b"\x0f\x10\x10application/grpc")


async def test_begun_and_left_without_end(server: RpcServer) -> None:
    each = (_opening(rpc.LogStream, at) + frame(RST, 0, at, b"\0\0\0\x08") for at in range(1, 2 * 4_000, 2))
    assert (await refused(server, *each))[0] == CALM


async def test_more_bytes_than_a_streams_window(server: RpcServer) -> None:
    chunk = grpc_message(pb.RunAndWaitOptions(cmd=b"x" * 16_000).SerializeToString())
    data = frame(DATA, 0, 1, chunk) * (limits.STREAM_WINDOW_BYTES // len(chunk) + 1)
    assert (await refused(server, _opening(rpc.RunAndWait, 1), data))[0] == FLOW


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"x" * 40, b"\0" * 64]
)
async def test_another_protocol(server: RpcServer, words: bytes) -> None:
    async with Raw(server.port) as raw:
        raw.send(words)
        assert b"HTTP/2" in await raw.closed()


class Wire(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes | str] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.done.append(data)

    def write_eof(self) -> None:
        self.done.append("eof")

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


async def test_a_connection_that_is_done_says_so_at_once_and_still_listens(server: RpcServer) -> None:
    """A client that keeps it for later closes it then; one that is just sending is not cut off in the middle."""
    host = server._server
    assert host is not None
    connection, wire = host._connected(), Wire()
    connection.connection_made(wire)
    connection.go_away()
    assert wire.done[-1] == "eof"
    assert frame(GOAWAY, 0, 0, bytes(8)) in b"".join(part for part in wire.done if isinstance(part, bytes))
    connection.data_received(PREFACE + settings_frame() + frame(PING, 0, 0, b"12345678"))
    await asyncio.sleep(0)
    assert wire.done[-1] == "eof", "nothing may follow the end"
    connection.connection_lost(None)


_FRAMES = st.lists(
    st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255),
        st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]),
        st.one_of(st.binary(max_size=64), st.sampled_from([b"\x83\x86\x84", b"\0\0\0\x08", POD, b"\0" * 6])),
    ),
    max_size=30,
)


@pytest.mark.parametrize("kind", ["frames", "bytes"])
async def test_anything(server: RpcServer, kind: str) -> None:
    """Random frames and bytes after the preface: the server survives, and forgets them."""
    loop = asyncio.get_running_loop()
    strays: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: strays.append(context))
    cases: list[bytes] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_FRAMES.map(b"".join) if kind == "frames" else st.binary(max_size=400))
    def collect(data: bytes) -> None:
        cases.append(data)

    collect()
    for data in cases:
        async with Raw(server.port) as raw:
            raw.send(PREFACE, settings_frame(), data)
            raw.writer.write_eof()
            await raw.closed()
        assert not strays, (data, strays)
