"""A gRPC client that costs next to nothing, so that a measurement shows the server and not its client.

One connection over a plain socket, requests packed by the caller, answers as
bytes, one write and one read for all calls of a moment. It is the same for
every system; the windows it announces are so large that it never has to
grant more while a benchmark runs.
"""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import hpack

from eru.lib.http2 import frames

_WINDOW = frames.WINDOW_MOST
_RENEW_BYTES = 1 << 30
_FRAME_BYTES = 1 << 20


class Failed(Exception):
    """A call that did not end with status 0."""


class _Call:
    def __init__(self, done: asyncio.Future[list[bytes]]) -> None:
        self.done = done
        self.data = bytearray()
        self.ended = ""

    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.data):
            length = int.from_bytes(self.data[at + 1 : at + 5], "big")
            found.append(bytes(self.data[at + 5 : at + 5 + length]))
            at += 5 + length
        return found


class LeanClient(asyncio.Protocol):
    """`await client.call(path, request)` gives the answer's messages."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._rest = b""
        self._out: list[bytes] = []
        self._heads: dict[str, bytes] = {}
        self._taken = 0
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, host: str, port: int) -> LeanClient:
        """Connected."""
        _, client = await asyncio.get_running_loop().create_connection(cls, host, port)
        return client

    async def call(self, path: str, request: bytes) -> list[bytes]:
        """Messages of the answer. Raises Failed."""
        stream, self._next = self._next, self._next + 2
        call = self._calls[stream] = _Call(self._loop.create_future())
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = _head(path)
        body = b"\0" + struct.pack(">I", len(request)) + request
        self._put(
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, head)
            + frames.frame(frames.DATA, frames.END_STREAM, stream, body)
        )
        return await call.done

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    # asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        told = frames.settings({frames.SET_WINDOW: _WINDOW, frames.SET_FRAME: _FRAME_BYTES, frames.SET_ENABLE_PUSH: 0})
        self._transport.write(frames.PREFACE + told + frames.window_update(0, _WINDOW - frames.WINDOW_FIRST))

    def connection_lost(self, error: Exception | None) -> None:
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(Failed(f"the connection ended: {error}"))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= frames.HEAD_BYTES:
            length = int.from_bytes(data[at : at + 3], "big")
            start = at + frames.HEAD_BYTES
            if end - start < length:
                break
            stream = int.from_bytes(data[at + 5 : start], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[start : start + length])
            at = start + length
        self._rest = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if kind == frames.DATA:
            self._taken += len(payload)
            if self._taken >= _RENEW_BYTES:
                self._put(frames.window_update(0, self._taken))
                self._taken = 0
            if call is not None:
                call.data += payload
        elif kind == frames.HEADERS:
            headers = dict(self._decoder.decode(payload, raw=True))
            if call is not None and flags & frames.END_STREAM:
                self._ended(stream, call, headers)
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING and not flags & frames.ACK:
            self._put(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.RST_STREAM and call is not None:
            self._ended(stream, call, {b"grpc-status": b"reset"})

    def _ended(self, stream: int, call: _Call, headers: dict[bytes, bytes]) -> None:
        del self._calls[stream]
        if call.done.done():
            return
        status = headers.get(b"grpc-status", b"?")
        if status == b"0":
            call.done.set_result(call.messages())
        else:
            call.done.set_exception(Failed(f"status {status!r}: {headers.get(b'grpc-message', b'')!r}"))

    def _put(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self._transport.write(data)


def _head(path: str) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0  # every block stands for itself, so it is packed once
    pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "bench"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    return encoder.encode(pairs)
