"""The numbers above 16 are really on the wire: read as raw HTTP/2, as a published client would."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest

from eru.lib.world import real_world
from eru.model.errors import InvalidInput, NoCapacity, NotFound, NotSupported
from eru.model.refusals import Reason, Refusal
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire.failures import TRAILER_REFUSALS
from eru.wire.routes import Call, stream, unary
from eru.wire.server import RpcServer, ServerSettings
from eru.wire.status import REFUSALS_BYTES_MAX, NoIDs, failure_of, number_of, sentence_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, DATA, SETTINGS, END_HEADERS, END_STREAM = 1, 0, 4, 4, 1


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def header(name: str, value: str) -> bytes:
    """A literal header without indexing."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def raw_call(port: int, path: str, message: bytes, *, half_close: bool) -> bytes:
    """All header-block bytes that the server sends on the stream until its trailers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    block = b"".join(
        header(name, value)
        for name, value in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "core"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
    )
    body = b"\x00" + struct.pack(">I", len(message)) + message
    writer.write(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block))
    writer.write(frame(DATA, END_STREAM if half_close else 0, 1, body))
    seen = b""
    while True:
        size_kind_flags = await reader.readexactly(5)
        stream_id = struct.unpack(">I", await reader.readexactly(4))[0]
        payload = await reader.readexactly(int.from_bytes(size_kind_flags[:3], "big"))
        if stream_id == 1 and size_kind_flags[3] == HEADERS:
            seen += payload
        if stream_id == 1 and size_kind_flags[4] & END_STREAM:
            writer.close()
            return seen


def has(block: bytes, name: str, value: str) -> bool:
    return bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() in block


async def no_node(request: pb.GetNodeOptions, call: Call) -> pb.Node:
    raise NotFound(f"node {request.nodename!r} does not exist")


async def one_pod(request: pb.GetPodOptions, call: Call) -> pb.Pod:
    return pb.Pod(name=request.name)


async def two_then_fail(request: pb.ListWorkloadsOptions, call: Call) -> AsyncIterator[pb.Workload]:
    yield pb.Workload(id="a")
    yield pb.Workload(id="b")
    raise NotFound("ünknown")


async def none_given(request: pb.RemoveWorkloadOptions, call: Call) -> AsyncIterator[pb.RemoveWorkloadMessage]:
    raise NoIDs
    yield


@pytest.fixture
async def port() -> AsyncIterator[int]:
    routes = [
        unary(rpc.GetNode, no_node),
        unary(rpc.GetPod, one_pod),
        stream(rpc.ListWorkloads, two_then_fail),
        stream(rpc.RemoveWorkload, none_given),
    ]
    server = RpcServer(real_world(), ServerSettings(bind="127.0.0.1:0", drain_s=0.1), routes)
    await server.start()
    yield server.port
    await server.drain()


@pytest.mark.parametrize("half_close", [True, False])
@pytest.mark.parametrize(
    ("path", "number"),
    [
        (rpc.GetNode.path, "1034"),
        (rpc.GetPod.path, "0"),
        (rpc.ListWorkloads.path, "1053"),
        (rpc.RemoveWorkload.path, "2"),
        (rpc.BuildImage.path, "12"),
    ],
)
async def test_number_on_the_wire(port: int, path: str, number: str, half_close: bool) -> None:
    """Also before the client has ended its side, as a published client's stream retry does."""
    block = await asyncio.wait_for(raw_call(port, path, b"", half_close=half_close), 10)
    assert has(block, "grpc-status", number), block


async def test_text_is_percent_encoded(port: int) -> None:
    block = await raw_call(port, rpc.ListWorkloads.path, b"", half_close=True)
    assert has(block, "grpc-message", "%C3%BCnknown"), block


def test_calls_without_a_number_of_their_own_use_the_standard_ones() -> None:
    assert number_of(rpc.Info, NotFound("x")) == 5
    assert number_of(rpc.Plan, NoCapacity("x")) == 8
    assert number_of(rpc.Plan, NotSupported("x")) == 12
    assert number_of(rpc.GetNode, InvalidInput("x")) == 1034
    assert number_of(rpc.ControlWorkload, NoIDs()) == 2


def test_a_sentence_is_one_bounded_line() -> None:
    assert sentence_of(ValueError("a\n  File x\n b")) == "a File x b"
    assert sentence_of(ValueError()) == "ValueError"
    assert len(sentence_of(ValueError("x" * 100_000))) <= 1500


def test_reasons_travel_in_a_bounded_trailer() -> None:
    reasons = [Refusal(nodename=f"node-{i}", reason=Reason.DOWN, detail="late" * 5) for i in range(10_000)]
    trailers = dict(failure_of(rpc.CalculateCapacity, NoCapacity("no", reasons), "t").trailers)
    packed = trailers[TRAILER_REFUSALS]
    assert isinstance(packed, bytes)
    assert 200 < len(packed) <= REFUSALS_BYTES_MAX
