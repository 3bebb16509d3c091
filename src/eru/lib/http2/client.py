"""The client's side of gRPC over HTTP/2, on the event loop itself.

grpc.aio hands each call to a thread of its own and back, which takes longer
than an etcd needs to answer it: 0.25 ms of CPU and 0.3 ms of time for a small
call. Here a call is two frames behind what the connection sends next.

    connection = await Connection.open("127.0.0.1", 2379, tls=None, message_bytes_max=4_000_000)
    answer = await connection.unary("/package.Service/Method", request, timeout_s=5)

A connection that has ended stays so; its owner opens another one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Self, cast

from eru.lib.http2 import frames
from eru.lib.http2.calls import STREAM_WINDOW_BYTES, ClientCall
from eru.lib.http2.failures import Code, RpcFailed, of_http, of_trailers
from eru.lib.http2.headers import Decoder, Header, HeaderError, TooLarge, literal, plain

CONNECTION_WINDOW_BYTES = 64 * 1024 * 1024  # the same for all answers of a connection; given back as they come
FRAME_BYTES_MAX = 1024 * 1024  # one frame that the server may send
HEADERS_BYTES_MAX = 64 * 1024  # of one answer
PING_AFTER_S = 10.0  # a connection with calls that is silent for so long is asked whether it is there
PING_ANSWER_S = 5.0  # and given up when it says nothing for so long
_LOOK_EVERY_S = 1.0
_STREAM_LAST = 2**31 - 1
_OUT_BYTES = 256 * 1024  # gathered before they are handed to the socket even though more may follow at once
_HEADS_KEPT_MAX = 256  # packed request headers that are remembered
_CONTINUATIONS_MAX = 64
_TIMEOUT_MS_MAX = 99_999_999  # eight digits

Metadata = tuple[tuple[str, str], ...]


class Broken(Exception):
    """The other side does not keep to the protocol; the connection cannot go on."""


class Connection(asyncio.Protocol):
    """One connection to a server. Begin calls only while it is `ready`."""

    def __init__(self, authority: str, secure: bool, message_bytes_max: int) -> None:
        """Use `open` instead."""
        self.message_bytes_max = message_bytes_max
        self.ping_after_s, self.ping_answer_s = PING_AFTER_S, PING_ANSWER_S
        self.calls: dict[int, ClientCall] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self._front = (b"\x83" + (b"\x87" if secure else b"\x86"), authority.encode())
        self._heads: dict[tuple[str, Metadata], bytes] = {}
        self._decoder = Decoder(HEADERS_BYTES_MAX)
        self._rest = b""
        self._next = 1
        self._going = False  # no new calls
        self._window = frames.WINDOW_FIRST
        self._window_of_streams = frames.WINDOW_FIRST
        self._frame_bytes = frames.FRAME_BYTES_FIRST
        self._streams_max = _STREAM_LAST
        self._room: deque[asyncio.Future[None]] = deque()
        self._owed = 0
        self._blocked: dict[int, ClientCall] = {}
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._headers: tuple[int, int, bytearray, int] | None = None  # stream, flags, block, continuations
        self._heard_at = 0.0  # loop time of the last bytes that came
        self._pinged_at = 0.0  # loop time of a probe that nothing came after; 0: none
        self._look: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, *, tls: ssl.SSLContext | None, server_name: str = "", message_bytes_max: int
    ) -> Self:
        """Connected, and greeted by the server. Raises OSError (ssl.SSLError among them), RpcFailed."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: cls(authority, tls is not None, message_bytes_max),
            host,
            port,
            ssl=tls,
            server_hostname=(server_name or host) if tls is not None else None,
        )
        try:
            await protocol.greeted
        except BaseException:
            protocol.close("it was not opened")
            raise
        return protocol

    @property
    def ready(self) -> bool:
        """Whether calls can be begun."""
        return not self._going and self._transport is not None and not self._transport.is_closing()

    # Calls.

    async def unary(self, path: str, request: bytes, *, timeout_s: float, metadata: Metadata = ()) -> bytes:
        """The answer to one message. Raises RpcFailed. A caller that is cancelled takes the call back."""
        if len(self.calls) >= self._streams_max:
            await self._wait_for_room(timeout_s)
        call = self._begin(path, metadata, _timeout(timeout_s), single=True)
        call.send(request, end=True)
        timer = self._loop.call_later(timeout_s, call.expire)
        try:
            return await call.answer()
        finally:
            timer.cancel()
            call.cancel()

    async def stream(self, path: str, *, metadata: Metadata = ()) -> ClientCall:
        """A call with messages in both directions. Raises RpcFailed."""
        if len(self.calls) >= self._streams_max:
            await self._wait_for_room(PING_ANSWER_S)
        return self._begin(path, metadata, b"", single=False)

    def _begin(self, path: str, metadata: Metadata, more: bytes, *, single: bool) -> ClientCall:
        if not self.ready:
            raise RpcFailed(Code.UNAVAILABLE, "the connection has ended", sent=False)
        stream = self._next
        self._next += 2
        if self._next > _STREAM_LAST:
            self._going = True  # there are no more numbers: the next call needs another connection
        head = self._heads.get((path, metadata))
        if head is None:
            if len(self._heads) >= _HEADS_KEPT_MAX:
                self._heads.clear()
            head = self._heads[path, metadata] = self._head(path, metadata)
        call = self.calls[stream] = ClientCall(self, stream, self._window_of_streams, single)
        block = head + more
        self._put(frames.head(len(block), frames.HEADERS, frames.END_HEADERS, stream) + block)
        return call

    def _head(self, path: str, metadata: Metadata) -> bytes:
        """The request's headers: names of the static table by their number, values as they are."""
        front, authority = self._front
        block = front + b"\x04" + plain(path.encode()) + b"\x01" + plain(authority)
        block += b"\x0f\x10\x10application/grpc" + literal(b"te", b"trailers")
        for key, value in metadata:
            block += literal(key.encode(), value.encode())
        return block

    async def _wait_for_room(self, timeout_s: float) -> None:
        """The server takes only so many calls at a time."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.calls) >= self._streams_max and self.ready:
                    room: asyncio.Future[None] = self._loop.create_future()
                    self._room.append(room)
                    await room
        except TimeoutError:
            text = f"{len(self.calls)} calls were under way for {timeout_s:g} s"
            raise RpcFailed(Code.DEADLINE_EXCEEDED, text, sent=False) from None

    def over(self, call: ClientCall) -> None:
        """Nothing comes or goes on its stream any more."""
        self.calls.pop(call.id, None)
        self._blocked.pop(call.id, None)
        while self._room and len(self.calls) < self._streams_max:
            if not (room := self._room.popleft()).done():
                room.set_result(None)
                break
        if self._going and not self.calls:
            self.close("it is not needed any more")

    # asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._heard_at = self._loop.time()
        self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_after)
        told = frames.settings(
            {
                frames.SET_ENABLE_PUSH: 0,
                frames.SET_WINDOW: STREAM_WINDOW_BYTES,
                frames.SET_FRAME: FRAME_BYTES_MAX,
                frames.SET_HEADERS: HEADERS_BYTES_MAX,
            }
        )
        more = CONNECTION_WINDOW_BYTES - frames.WINDOW_FIRST
        self._put(frames.PREFACE + told + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        self._heard_at, self._pinged_at = self._loop.time(), 0.0
        if self._rest:
            data = self._rest + data
        try:
            self._rest = data[self._read(data) :]
        except Broken as broken:
            self._rest = b""
            self._put(frames.goaway(0, frames.PROTOCOL_ERROR, str(broken).encode()))
            self.close(str(broken))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._look is not None:
            self._look.cancel()
        self._fail_all(f"the connection ended: {error}" if error else "the connection was closed by the server")

    def close(self, why: str = "it was closed") -> None:
        """End it now; calls under way fail."""
        self._going = True
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._fail_all(f"the connection was closed: {why}")

    def _fail_all(self, text: str) -> None:
        self._going = True
        if not self.greeted.done():
            self.greeted.set_exception(RpcFailed(Code.UNAVAILABLE, text, sent=False))
            self.greeted.exception()  # looked at: who opens it may have gone away
        for call in list(self.calls.values()):
            call.end(RpcFailed(Code.UNAVAILABLE, text))
        while self._room:
            if not (room := self._room.popleft()).done():
                room.set_result(None)

    def _look_after(self) -> None:
        """A silent connection is asked whether it is there, and cut off when it does not say so."""
        self._look = self._loop.call_later(_LOOK_EVERY_S, self._look_after)
        now = self._loop.time()
        if self._pinged_at:
            if now - self._pinged_at > self.ping_answer_s and self._transport is not None:
                self._transport.abort()
                self._fail_all(f"the connection ended: no answer to a ping in {self.ping_answer_s:g} s")
        elif self.calls and now - self._heard_at > self.ping_after_s:
            self._pinged_at = now
            self._put(frames.frame(frames.PING, 0, 0, b"eru-ping"))

    # Frames that come.

    def _read(self, data: bytes) -> int:
        """Handle all whole frames; how many bytes they took."""
        at, end = 0, len(data)
        if end > 3 and data[3] != frames.SETTINGS and not self.greeted.done():
            raise Broken("what answers does not speak HTTP/2")
        while end - at >= frames.HEAD_BYTES:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > FRAME_BYTES_MAX:
                raise Broken(f"a frame of {length} bytes is too large")
            start = at + frames.HEAD_BYTES
            if end - start < length:
                break
            stream = int.from_bytes(data[at + 5 : start], "big") & 0x7FFFFFFF
            self._frame(data[at + 3], data[at + 4], stream, data[start : start + length])
            at = start + length
        return at

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != frames.CONTINUATION:
            raise Broken("a header block was interrupted")
        if kind == frames.DATA:
            self._on_data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window(stream, frames.number(_sized(payload, 4)))
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._put(frames.frame(frames.PING, frames.ACK, 0, _sized(payload, 8)))
        elif kind == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == frames.RST_STREAM:
            self._on_reset(stream, frames.number(_sized(payload, 4)))
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == frames.GOAWAY:
            self._on_goaway(payload)
        elif kind == frames.PUSH_PROMISE:
            raise Broken("something was pushed that nobody asked for")
        # PRIORITY and kinds that nobody has heard of say nothing to us.

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = _unpadded(flags, payload)
        if flags & frames.WITH_PRIORITY:
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(stream, flags, payload)
        else:
            self._headers = (stream, flags, bytearray(payload), 0)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != stream or self._headers[3] >= _CONTINUATIONS_MAX:
            raise Broken("a header block goes on that nobody began, or without end")
        _, first, block, many = self._headers
        block += payload
        self._headers = (stream, first, block, many + 1)
        if flags & frames.END_HEADERS:
            self._headers = None
            self._on_block(stream, first, bytes(block))

    def _on_block(self, stream: int, flags: int, block: bytes) -> None:
        try:
            headers: list[Header] = self._decoder.decode(block)
        except HeaderError as error:
            raise Broken(str(error)) from error
        except TooLarge:
            headers = []
        call = self.calls.get(stream)
        if call is None:
            return
        told = dict(headers)
        status = told.get(b":status", b"200")
        if not status.startswith((b"2", b"1")):
            call.end(of_http(status) if b"grpc-status" not in told else of_trailers(told))
        elif flags & frames.END_STREAM:
            call.end(of_trailers(told))

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._owed += size
        if self._owed >= CONNECTION_WINDOW_BYTES // 4:
            self._put(frames.window_update(0, self._owed))
            self._owed = 0
        call = self.calls.get(stream)
        if call is None:
            return  # it was given up here; what was on the way is dropped
        call.received(_unpadded(flags, payload), size)
        if flags & frames.END_STREAM:
            call.end(of_trailers({}))

    def _on_window(self, stream: int, more: int) -> None:
        if not stream:
            self._window += more
            self._pump_all()
        elif (call := self.calls.get(stream)) is not None:
            call.window += more
            self._pump(call)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        if len(payload) % 6:
            raise Broken("settings come in sixes")
        for at in range(0, len(payload), 6):
            key = payload[at] << 8 | payload[at + 1]
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == frames.SET_WINDOW:
                for call in self.calls.values():
                    call.window += value - self._window_of_streams
                self._window_of_streams = value
            elif key == frames.SET_FRAME:
                self._frame_bytes = max(value, frames.FRAME_BYTES_FIRST)
            elif key == frames.SET_STREAMS:
                self._streams_max = max(value, 1)
        self._put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._pump_all()

    def _on_reset(self, stream: int, error: int) -> None:
        if (call := self.calls.get(stream)) is not None:
            text = f"the server gave the call up (HTTP/2 error {error})"
            call.end(RpcFailed(Code.UNAVAILABLE, text, sent=error != frames.REFUSED_STREAM))

    def _on_goaway(self, payload: bytes) -> None:
        """What the server has not looked at was certainly not done; what it has, it finishes."""
        last, why = frames.number(payload), payload[8:].decode(errors="replace")
        self._going = True
        text = f"the server closes the connection{': ' if why else ''}{why}"
        for call in list(self.calls.values()):
            if call.id > last:
                call.end(RpcFailed(Code.UNAVAILABLE, text, sent=False))
        if not self.calls:
            self.close(text)

    # Frames that go.

    def send(self, call: ClientCall, data: bytes, end: bool) -> None:
        """A message, as far as the windows let it; the rest follows."""
        size = len(data)
        if not call.backlog and size <= self._window and size <= call.window and size <= self._frame_bytes:
            self._window -= size
            call.window -= size
            self._put(frames.head(size, frames.DATA, frames.END_STREAM if end else 0, call.id) + data)
            return
        call.backlog += data
        call.ending = end
        self._blocked[call.id] = call
        self._pump(call)

    def _pump(self, call: ClientCall) -> None:
        while call.backlog and (room := min(call.window, self._window, self._frame_bytes)) > 0:
            data = bytes(call.backlog[:room])
            del call.backlog[:room]
            call.window -= len(data)
            self._window -= len(data)
            end = frames.END_STREAM if call.ending and not call.backlog else 0
            self._put(frames.frame(frames.DATA, end, call.id, data))
        if not call.backlog:
            self._blocked.pop(call.id, None)

    def _pump_all(self) -> None:
        for call in list(self._blocked.values()):
            if self._window <= 0:
                return
            self._pump(call)
            if call.backlog:  # to the end of the row, so that the others get their turn
                self._blocked[call.id] = self._blocked.pop(call.id)

    def give_credit(self, call: ClientCall) -> None:
        """The server may send on, once that is worth a frame."""
        if call.owed >= STREAM_WINDOW_BYTES // 2 and call.id in self.calls:
            self._put(frames.window_update(call.id, call.owed))
            call.owed = 0

    def reset(self, call: ClientCall) -> None:
        """We do not want it any more."""
        if self._transport is not None:
            self._put(frames.reset(call.id, frames.CANCEL))

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= _OUT_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True  # one write for all that this round of the loop has to say
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._out:
            return
        data, self._out, self._out_bytes = b"".join(self._out), [], 0
        if self._transport is not None:
            self._transport.write(data)


def _timeout(seconds: float) -> bytes:
    """How long we wait, for the server to know."""
    return literal(b"grpc-timeout", b"%dm" % min(max(int(seconds * 1000), 1), _TIMEOUT_MS_MAX))


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & frames.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken("more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _sized(payload: bytes, size: int) -> bytes:
    if len(payload) != size:
        raise Broken(f"a frame of {size} bytes has {len(payload)}")
    return payload
