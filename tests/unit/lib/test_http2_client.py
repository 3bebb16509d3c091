"""The client's HTTP/2: against our own server, and against servers that do what they like."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eru.lib.http2 import frames
from eru.lib.http2.calls import STREAM_WINDOW_BYTES
from eru.lib.http2.client import Connection
from eru.lib.http2.failures import Code, RpcFailed
from eru.lib.http2.headers import literal
from eru.lib.world import real_world
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.routes import Call, Route, both, stream, unary
from eru.wire.server import RpcServer, ServerSettings

ENDS_S = 30.0  # far more than anything here takes
LARGE = 3 * STREAM_WINDOW_BYTES
OPENED = frames.settings({})
ANSWER = b"\x88\x0f\x10\x10application/grpc"
DONE = literal(b"grpc-status", b"0")

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(request: pb.GetPodOptions, call: Call) -> pb.Pod:
    if request.name == "wait":
        await asyncio.Event().wait()
    if request.name == "large":
        return pb.Pod(desc="x" * LARGE)
    return pb.Pod(name=request.name[:10], desc=call.trace)


async def many(request: pb.ListNodesOptions, call: Call) -> AsyncIterator[pb.Node]:
    for number in range(200):
        yield pb.Node(name=f"n{number}", info="x" * 50_000)


async def sizes(requests: AsyncIterator[pb.FileOptions], call: Call) -> AsyncIterator[pb.SendMessage]:
    async for request in requests:
        yield pb.SendMessage(id=str(len(request.chunk)))


ROUTES: tuple[Route, ...] = (unary(rpc.GetPod, echo), stream(rpc.ListPodNodes, many), both(rpc.SendLargeFile, sizes))


@pytest.fixture
async def ours() -> AsyncIterator[Connection]:
    server = RpcServer(real_world(), ServerSettings(bind="127.0.0.1:0", drain_s=0.5), ROUTES)
    await server.start()
    connection = await opened(server.port)
    try:
        yield connection
        assert await pod(connection) == "p"  # whatever happened, the connection still serves
        assert not connection.calls
    finally:
        connection.close()
        await server.drain()


async def opened(port: int) -> Connection:
    async with asyncio.timeout(ENDS_S):
        return await Connection.open("127.0.0.1", port, tls=None, message_bytes_max=10 * LARGE)


async def pod(connection: Connection, name: str = "p", timeout_s: float = ENDS_S) -> str:
    request = pb.GetPodOptions(name=name).SerializeToString()
    answer = await connection.unary(rpc.GetPod.path, request, timeout_s=timeout_s)
    return pb.Pod.FromString(answer).name


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    """A server that has read the preface of each client, and then follows the script; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readexactly(len(frames.PREFACE))
            await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def frame_of(reader: asyncio.StreamReader, kind: int) -> tuple[int, bytes]:
    """Stream and payload of the next frame of this kind; others are passed over."""
    while True:
        head = await reader.readexactly(frames.HEAD_BYTES)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == kind:
            return int.from_bytes(head[5:], "big"), payload


def answered(stream: int, message: bytes) -> bytes:
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return (
        frames.frame(frames.HEADERS, frames.END_HEADERS, stream, ANSWER)
        + frames.frame(frames.DATA, 0, stream, body)
        + frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, DONE)
    )


# Beside our own server.


async def test_many_calls_at_once_and_one_that_is_refused(ours: Connection) -> None:
    names = [f"p{number}" for number in range(90)]
    assert await asyncio.gather(*(pod(ours, name) for name in names)) == names
    with pytest.raises(RpcFailed, match="there is no method /nobody/knows") as caught:
        await ours.unary("/nobody/knows", b"", timeout_s=ENDS_S)
    assert caught.value.code is Code.UNIMPLEMENTED


async def test_more_calls_than_the_server_takes_wait_for_their_turn(ours: Connection) -> None:
    assert len(await asyncio.gather(*(pod(ours) for _ in range(350)))) == 350


async def test_requests_and_answers_larger_than_every_window(ours: Connection) -> None:
    assert await pod(ours, "y" * LARGE) == "y" * 10
    answer = await ours.unary(rpc.GetPod.path, pb.GetPodOptions(name="large").SerializeToString(), timeout_s=ENDS_S)
    assert len(answer) > LARGE


async def test_a_stream_is_read_as_fast_as_its_reader_likes(ours: Connection) -> None:
    call = await ours.stream(rpc.ListPodNodes.path)
    call.send(pb.ListNodesOptions().SerializeToString(), end=True)
    assert await call.read() is not None
    for _ in range(20):
        assert await pod(ours) == "p"  # the stream is ten windows long, and nobody else waits for its reader
    left = 0
    async with asyncio.timeout(ENDS_S):
        while await call.read() is not None:
            left += 1
    assert left == 199


async def test_messages_in_both_directions(ours: Connection) -> None:
    call = await ours.stream(rpc.SendLargeFile.path)
    async with asyncio.timeout(ENDS_S):
        for size in (1, 100_000, 7):
            call.send(pb.FileOptions(chunk=b"x" * size).SerializeToString())
            answer = await call.read()
            assert answer is not None
            assert pb.SendMessage.FromString(answer).id == str(size)
    call.cancel()
    with pytest.raises(RpcFailed, match="cancelled"):
        await call.read()


async def test_a_call_that_takes_too_long_or_is_given_up_leaves_nothing_behind(ours: Connection) -> None:
    with pytest.raises(RpcFailed) as caught:
        await pod(ours, "wait", timeout_s=0.05)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    waiting = asyncio.ensure_future(pod(ours, "wait"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ours.calls


# Servers that do what they like.


async def test_what_a_leaving_server_has_not_looked_at_was_not_sent() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        first, _ = await frame_of(reader, frames.HEADERS)
        await frame_of(reader, frames.HEADERS)
        writer.write(frames.goaway(first, frames.NO_ERROR, b"tired"))
        writer.write(answered(first, pb.Pod(name="first").SerializeToString()))
        await reader.read()

    async with scripted(script) as port:
        connection = await opened(port)
        first = asyncio.ensure_future(pod(connection))
        await asyncio.sleep(0)
        with pytest.raises(RpcFailed, match="tired") as caught:
            await pod(connection)
        assert not caught.value.sent
        assert await first == "first"
        assert not connection.ready
        with pytest.raises(RpcFailed) as caught:
            await pod(connection)
        assert not caught.value.sent


@pytest.mark.parametrize(("error", "sent"), [(frames.REFUSED_STREAM, False), (frames.INTERNAL_ERROR, True)])
async def test_a_call_that_the_server_resets(error: int, sent: bool) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        number, _ = await frame_of(reader, frames.HEADERS)
        writer.write(frames.reset(number, error))
        await reader.read()

    async with scripted(script) as port:
        connection = await opened(port)
        with pytest.raises(RpcFailed) as caught:
            await pod(connection)
        assert caught.value.sent is sent
        connection.close()


async def test_nobody_knows_what_became_of_a_call_whose_connection_ended() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        await frame_of(reader, frames.DATA)

    async with scripted(script) as port:
        connection = await opened(port)
        with pytest.raises(RpcFailed, match="the connection was closed by the server") as caught:
            await pod(connection)
        assert caught.value.sent
        assert not connection.ready


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x46", answered(1, b"")])
async def test_what_does_not_speak_http2_is_told_apart(said: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await reader.read()

    async with scripted(script) as port:
        with pytest.raises(RpcFailed, match="does not speak HTTP/2") as caught:
            await opened(port)
        assert not caught.value.sent


async def test_a_server_that_never_greets_is_not_connected_to() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(script) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await Connection.open("127.0.0.1", port, tls=None, message_bytes_max=1)


async def test_a_message_above_the_limit_is_refused_and_not_gathered() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        number, _ = await frame_of(reader, frames.HEADERS)
        writer.write(frames.frame(frames.HEADERS, frames.END_HEADERS, number, ANSWER))
        writer.write(frames.frame(frames.DATA, 0, number, b"\0\xff\xff\xff\xff"))
        assert await frame_of(reader, frames.RST_STREAM) == (number, frames.CANCEL.to_bytes(4, "big"))

    async with scripted(script) as port:
        connection = await opened(port)
        with pytest.raises(RpcFailed, match=r"received message larger than max \(4294967295 vs") as caught:
            await pod(connection)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        connection.close()


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (literal(b":status", b"503"), Code.UNAVAILABLE),
        (literal(b":status", b"404"), Code.UNIMPLEMENTED),
        (ANSWER, Code.UNKNOWN),
        (ANSWER + literal(b"grpc-status", b"9") + literal(b"grpc-message", b"50%25"), Code.FAILED_PRECONDITION),
        (ANSWER + literal(b"grpc-status", b"99"), Code.UNKNOWN),
        (ANSWER + DONE, Code.INTERNAL),
    ],
)
async def test_answers_without_a_message(block: bytes, code: Code) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        number, _ = await frame_of(reader, frames.HEADERS)
        writer.write(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, block))
        await reader.read()

    async with scripted(script) as port:
        connection = await opened(port)
        with pytest.raises(RpcFailed) as caught:
            await pod(connection)
        assert caught.value.code is code
        assert caught.value.details
        connection.close()


async def test_a_silent_connection_is_asked_and_given_up() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        await frame_of(reader, frames.PING)
        asked.set()
        await reader.read()

    asked = asyncio.Event()
    async with scripted(script) as port:
        connection = await opened(port)
        connection.ping_after_s = connection.ping_answer_s = 0.1
        waiting = asyncio.ensure_future(pod(connection, timeout_s=120))
        async with asyncio.timeout(ENDS_S):
            await asked.wait()
            with pytest.raises(RpcFailed, match="no answer to a ping") as caught:
                await waiting
        assert caught.value.sent


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.sampled_from([0, 1, 2, 3]), st.binary(max_size=40)),
        max_size=8,
    )
)
async def test_no_frames_make_the_client_hang_or_crash(said: list[tuple[int, int, int, bytes]]) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OPENED)
        await frame_of(reader, frames.DATA)
        writer.write(b"".join(frames.frame(*each) for each in said))

    async with scripted(script) as port:
        connection = await opened(port)
        async with asyncio.timeout(ENDS_S):
            with pytest.raises(RpcFailed):
                await pod(connection)
