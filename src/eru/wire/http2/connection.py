"""One client's connection: frames in, frames out, windows, and the calls that run over it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol, cast

from eru.lib.http2 import frames
from eru.lib.http2.headers import Decoder, Header, HeaderError, TooLarge
from eru.wire import limits
from eru.wire.http2.call import Call, Ended, timeout_s

_ANNOUNCED = frames.settings(
    {
        frames.SET_WINDOW: limits.STREAM_WINDOW_BYTES,
        frames.SET_FRAME: limits.FRAME_BYTES_MAX,
        frames.SET_HEADERS: limits.METADATA_BYTES_MAX,
    }
)
_OUT_BYTES = 256 * 1024  # gathered before they are handed to the socket even though more may follow at once
_FRAMES_WITHOUT_USE_MAX = 10_000  # pings, settings, windows and the like, and no request or message between them
_FRAMES_WITHOUT_USE_PER_S = 1_000.0  # forgiven each second
_LEFT_AHEAD_MAX = 1_000  # calls reset by the client, above those that were answered
_LEFT_AHEAD_PER_S = 100.0  # forgiven each second: who follows streams for days leaves many of them
_CONTINUATIONS_MAX = 64
_WRONG_TYPE = b"\x0e\x03415"  # `:status` of the static table, with another value


class Refused(Exception):
    """The connection cannot go on; `error` is the HTTP/2 code."""

    def __init__(self, error: int, why: str) -> None:
        super().__init__(why)
        self.error = error


class Allowance:
    """How much of something a client may do: `most` at once, `per_s` more each second."""

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, most: int, per_s: float) -> None:
        self._most, self._per_s = most, per_s
        self._left = float(most)
        self._at = 0.0  # loop time

    def spend(self, now: float) -> bool:
        """Take one at loop time `now`; False when there is none."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._most) - 1
        self._at = now
        return self._left >= 0

    def give_back(self) -> None:
        """One was not what it looked like."""
        self._left = min(self._left + 1, self._most)

    def refill(self) -> None:
        """Something useful came in between."""
        self._left = self._most


class Host(Protocol):
    """What a connection needs of its server."""

    message_bytes_max: int
    streams_max: int

    def accept(self, call: Call) -> None:
        """A call whose headers have come: find its handler. Raises Ended."""

    def begin(self, call: Call) -> None:
        """Run its handler."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.message_bytes_max = host.message_bytes_max
        self.peer = "unknown"
        self.calls: dict[int, Call] = {}
        self.heard_at = 0.0  # loop time of the last bytes that came
        self.pinged_at = 0.0  # loop time of a probe that nothing came after; 0: none
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder(limits.METADATA_BYTES_MAX)
        self._rest = b""
        self._greeted = False
        self._last = 0  # highest stream id of the client
        self._going = False
        self._lingering = False
        self._silent = False  # nothing may be written any more
        self._deaf = False  # nothing is read any more, only taken
        self._window = frames.WINDOW_FIRST
        self._window_of_streams = frames.WINDOW_FIRST
        self._frame_bytes = frames.FRAME_BYTES_FIRST
        self._owed = 0
        self._paused = False
        self._blocked: dict[int, Call] = {}
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._headers: tuple[int, int, bytearray, int] | None = None  # stream, flags, block, continuations
        self._useless = Allowance(_FRAMES_WITHOUT_USE_MAX, _FRAMES_WITHOUT_USE_PER_S)
        self._left_ahead = Allowance(_LEFT_AHEAD_MAX, _LEFT_AHEAD_PER_S)

    # asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._transport = writing
        self.peer = _peer(transport.get_extra_info("peername"))
        self.heard_at = self._loop.time()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() not in ("h2", None):
            transport.close()
            return
        writing.set_write_buffer_limits(high=_OUT_BYTES)
        more = limits.CONNECTION_WINDOW_BYTES - frames.WINDOW_FIRST
        streams = frames.settings({frames.SET_STREAMS: self._host.streams_max})
        self._put(_ANNOUNCED + streams + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self.heard_at, self.pinged_at = self._loop.time(), 0.0
        if self._rest:
            data = self._rest + data
        try:
            self._rest = data[self._read(data) :]
        except Refused as refused:
            self._refuse(refused)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        for call in list(self.calls.values()):
            self._drop(call)
        self._host.lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump_all()

    # Frames that come.

    def _read(self, data: bytes) -> int:
        """Handle all whole frames; how many bytes they took."""
        at, end = 0, len(data)
        if not self._greeted:
            preface = frames.PREFACE
            if end < len(preface):
                if not preface.startswith(data):
                    raise Refused(frames.PROTOCOL_ERROR, "this port speaks HTTP/2 only")
                return 0
            if not data.startswith(preface):
                raise Refused(frames.PROTOCOL_ERROR, "this port speaks HTTP/2 only")
            self._greeted, at = True, len(preface)
        while end - at >= frames.HEAD_BYTES:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > limits.FRAME_BYTES_MAX:
                raise Refused(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes is too large")
            start = at + frames.HEAD_BYTES
            if end - start < length:
                break
            stream = int.from_bytes(data[at + 5 : start], "big") & 0x7FFFFFFF
            self._frame(data[at + 3], data[at + 4], stream, data[start : start + length])
            at = start + length
            if self._transport is None or self._transport.is_closing():
                return end
        return at

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != frames.CONTINUATION:
            raise Refused(frames.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            self._useless.refill()
            self._on_data(flags, stream, payload)
            return
        if kind == frames.HEADERS:
            self._on_headers(flags, stream, payload)
            return
        if not self._useless.spend(self.heard_at):
            raise Refused(frames.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")
        if kind == frames.WINDOW_UPDATE:
            self._on_window(stream, payload)
        elif kind == frames.PING:
            _sized(kind, payload, 8)
            if not flags & frames.ACK:
                self._put(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == frames.RST_STREAM:
            _sized(kind, payload, 4)
            self._on_reset(stream)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Refused(frames.PROTOCOL_ERROR, "clients do not push")
        # PRIORITY, GOAWAY and kinds that nobody has heard of say nothing to us.

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise Refused(frames.PROTOCOL_ERROR, f"stream {stream} cannot be a client's")
        payload = _unpadded(flags, payload)
        if flags & frames.WITH_PRIORITY:
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(stream, flags, payload)
        else:
            self._headers = (stream, flags, bytearray(payload), 0)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != stream:
            raise Refused(frames.PROTOCOL_ERROR, "a header block goes on that nobody began")
        _, first, block, many = self._headers
        block += payload
        if many >= _CONTINUATIONS_MAX or len(block) > 2 * limits.METADATA_BYTES_MAX:
            raise Refused(frames.ENHANCE_YOUR_CALM, "a header block is too large")
        self._headers = (stream, first, block, many + 1)
        if flags & frames.END_HEADERS:
            self._headers = None
            self._on_block(stream, first, bytes(block))

    def _on_block(self, stream: int, flags: int, block: bytes) -> None:
        try:
            headers: list[Header] | None = self._decoder.decode(block)
        except HeaderError as error:
            raise Refused(frames.COMPRESSION_ERROR, str(error)) from error
        except TooLarge:
            headers = None
        if stream <= self._last:
            self._on_trailers(stream, flags)
            return
        self._last = stream
        if self._going or len(self.calls) >= self._host.streams_max:
            self._put(frames.reset(stream, frames.REFUSED_STREAM))  # the client may ask elsewhere, whatever it asked
            return
        self._open(stream, headers, bool(flags & frames.END_STREAM))

    def _open(self, stream: int, headers: list[Header] | None, over: bool) -> None:
        told = dict(headers or ())
        call = Call(self, stream, self._window_of_streams, told.get(b":path", b""), headers or [])
        self.calls[stream] = call
        call.request_over = over
        if headers is not None and not told.get(b"content-type", b"").startswith(b"application/grpc"):
            call.closed = True
            self.send_headers(stream, _WRONG_TYPE, end=True)
            self.over(call)
            return
        try:
            if headers is None:
                raise Ended(8, f"the metadata is larger than {limits.METADATA_BYTES_MAX} bytes")
            self._host.accept(call)
            if (left_s := timeout_s(headers)) is not None:
                call.deadline = self._loop.time() + left_s
                call.timer = self._loop.call_later(left_s, self._expire, call)
            if call.handler.request_streaming:
                self._host.begin(call)
            elif over:
                self._request_over(call)
        except Ended as ended:
            call.fail(ended.number, str(ended))

    def _on_trailers(self, stream: int, flags: int) -> None:
        call = self.calls.get(stream)
        if call is not None and not call.request_over:
            if not flags & frames.END_STREAM:
                raise Refused(frames.PROTOCOL_ERROR, "a second header block must be the last")
            try:
                self._request_over(call)
            except Ended as ended:
                call.fail(ended.number, str(ended))

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._owed += size
        if self._owed > limits.CONNECTION_WINDOW_BYTES:
            raise Refused(frames.FLOW_CONTROL_ERROR, "more bytes than the connection's window")
        if self._owed >= limits.CONNECTION_WINDOW_BYTES // 2:
            self._put(frames.window_update(0, self._owed))
            self._owed = 0
        call = self.calls.get(stream)
        if call is None or call.request_over:
            if stream > self._last or not stream:
                raise Refused(frames.PROTOCOL_ERROR, f"data for stream {stream}, which was never opened")
            return  # the answer was complete before the question: what still comes is dropped
        call.credit -= size
        call.owed += size
        if call.credit < 0:
            raise Refused(frames.FLOW_CONTROL_ERROR, "more bytes than the stream's window")
        try:
            single = not call.handler.request_streaming
            if size:
                if single and call.task is not None:
                    raise Ended(13, "one message was expected, more came")
                call.received(_unpadded(flags, payload))
                if single and call.waiting_messages:
                    self._host.begin(call)  # some clients keep their side open until they are answered
            if flags & frames.END_STREAM:
                self._request_over(call)
            elif single or not call.waiting_messages:
                self._give_credit(call)
        except Ended as ended:
            self._cancel(call)
            call.fail(ended.number, str(ended))

    def _request_over(self, call: Call) -> None:
        call.finished()
        if call.task is None:
            raise Ended(13, "the request has no message")

    def taken(self, call: Call) -> None:
        """The handler took a message: the client may send on."""
        if not call.waiting_messages and not call.request_over:
            self._give_credit(call)

    def _give_credit(self, call: Call) -> None:
        if call.owed >= limits.STREAM_WINDOW_BYTES // 2 and not call.closed:
            self._put(frames.window_update(call.id, call.owed))
            call.credit += call.owed
            call.owed = 0

    def _on_window(self, stream: int, payload: bytes) -> None:
        _sized(frames.WINDOW_UPDATE, payload, 4)
        more = frames.number(payload)
        if not stream:
            self._window += more
            if not more or self._window > frames.WINDOW_MOST:
                raise Refused(frames.FLOW_CONTROL_ERROR, "the connection's window is out of bounds")
            self._pump_all()
            return
        call = self.calls.get(stream)
        if call is None:
            return
        call.window += more
        if not more or call.window > frames.WINDOW_MOST:
            self._put(frames.reset(stream, frames.FLOW_CONTROL_ERROR))
            self._drop(call)
        elif call.backlog:
            self.pump(call)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        if len(payload) % 6:
            raise Refused(frames.FRAME_SIZE_ERROR, "settings come in sixes")
        for at in range(0, len(payload), 6):
            key = payload[at] << 8 | payload[at + 1]
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == frames.SET_WINDOW:
                if value > frames.WINDOW_MOST:
                    raise Refused(frames.FLOW_CONTROL_ERROR, "an initial window is out of bounds")
                for call in self.calls.values():
                    call.window += value - self._window_of_streams
                self._window_of_streams = value
            elif key == frames.SET_FRAME:
                if not frames.FRAME_BYTES_FIRST <= value <= frames.FRAME_BYTES_MOST:
                    raise Refused(frames.PROTOCOL_ERROR, "a frame size is out of bounds")
                self._frame_bytes = value
        self._put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._pump_all()

    def _on_reset(self, stream: int) -> None:
        call = self.calls.get(stream)
        if call is None:
            return
        if not self._left_ahead.spend(self.heard_at):
            raise Refused(frames.ENHANCE_YOUR_CALM, "too many calls were begun and left")
        self._drop(call)

    # Calls that end.

    def _expire(self, call: Call) -> None:
        """The client's own time is over; it may still want to hear of it."""
        self._cancel(call)
        self._blocked.pop(call.id, None)
        call.expired()

    def _cancel(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()

    def _drop(self, call: Call) -> None:
        """The client does not want it any more, or cannot be reached."""
        self.calls.pop(call.id, None)
        self._blocked.pop(call.id, None)
        call.shut()
        self._cancel(call)
        self._rest_if_done()

    def over(self, call: Call) -> None:
        """Its last frame is on the way."""
        self._left_ahead.give_back()
        self.calls.pop(call.id, None)
        self._blocked.pop(call.id, None)
        call.shut()
        if not call.request_over:
            self._put(frames.reset(call.id, frames.NO_ERROR))  # answered; the rest of the question is not needed
        self._rest_if_done()

    # Frames that go.

    def lets_pass(self, size: int) -> bool:
        """Whether the connection takes so many bytes right now."""
        return size <= self._window and not self._paused

    def send_data(self, stream: int, data: bytes) -> None:
        """Bytes that fit all windows."""
        self._window -= len(data)
        self._useless.refill()  # a reader of much sends many windows
        most = self._frame_bytes
        if len(data) <= most:
            self._put(frames.head(len(data), frames.DATA, 0, stream) + data)
            return
        for at in range(0, len(data), most):
            self._put(frames.frame(frames.DATA, 0, stream, data[at : at + most]))

    def send_headers(self, stream: int, block: bytes, *, end: bool) -> None:
        """A header block, in as many frames as it takes."""
        most = self._frame_bytes
        flags = frames.END_STREAM if end else 0
        if len(block) <= most:
            self._put(frames.frame(frames.HEADERS, flags | frames.END_HEADERS, stream, block))
            return
        self._put(frames.frame(frames.HEADERS, flags, stream, block[:most]))
        for at in range(most, len(block), most):
            last = frames.END_HEADERS if at + most >= len(block) else 0
            self._put(frames.frame(frames.CONTINUATION, last, stream, block[at : at + most]))

    def blocked(self, call: Call) -> None:
        """It has a backlog: its turn comes with the next window."""
        self._blocked[call.id] = call

    def pump(self, call: Call) -> bool:
        """Send of its backlog what the windows let through; whether that was all."""
        while call.backlog and not self._paused and (room := min(call.window, self._window, self._frame_bytes)) > 0:
            data = call.backlog[0]
            if len(data) > room:
                call.backlog[0] = data[room:]
                data = data[:room]
            else:
                call.backlog.popleft()
            call.window -= len(data)
            self.send_data(call.id, data)
        if call.backlog:
            return False
        self._blocked.pop(call.id, None)
        call.pumped()
        return True

    def _pump_all(self) -> None:
        for call in list(self._blocked.values()):
            if self._window <= 0 or self._paused:
                return
            if not self.pump(call):  # to the end of the row, so that the others get their turn
                self._blocked[call.id] = self._blocked.pop(call.id, call)

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
        if self._transport is not None and not self._silent:
            self._transport.write(data)

    # How the connection ends.

    def probe(self, now: float) -> None:
        """A silent client is asked whether it is there, and cut off when it does not say so."""
        if self.pinged_at:
            if now - self.pinged_at > limits.KEEPALIVE_TIMEOUT_S and self._transport is not None:
                self._transport.abort()
        elif now - self.heard_at > limits.SERVER_KEEPALIVE_S:
            self.pinged_at = now
            self._put(frames.frame(frames.PING, 0, 0, b"eru-ping"))

    def go_away(self) -> None:
        """Begin nothing new, finish what runs, then close."""
        if not self._going:
            self._going = True
            self._put(frames.goaway(self._last, frames.NO_ERROR))
            for call in list(self.calls.values()):
                if call.task is None:  # its request has not come whole: nothing was begun
                    self._put(frames.reset(call.id, frames.REFUSED_STREAM))
                    self._drop(call)
            self._rest_if_done()

    def close(self) -> None:
        """End everything now."""
        self._going = True
        self._put(frames.goaway(self._last, frames.NO_ERROR))
        for call in list(self.calls.values()):
            self._drop(call)
        self._shut()

    def _refuse(self, refused: Refused) -> None:
        """End everything, and say why. What still comes is dropped: to leave it unread would make the system
        drop our words instead."""
        self._going = self._deaf = True
        self._rest = b""
        self._put(frames.goaway(self._last, refused.error, str(refused).encode()))
        for call in list(self.calls.values()):
            self._drop(call)
        self._rest_if_done()

    def _rest_if_done(self) -> None:
        """Closing waits a moment for the client to close first: what it was just sending would make the
        system drop our last words, and it would not know that its newest calls were never begun. That
        nothing more will come from here is said at once, so that also a client that kept the connection
        for later closes it. (TLS cannot say so for one direction.)"""
        if self._going and not self.calls and not self._lingering:
            self._lingering = True
            self._flush()
            if self._transport is not None and self._transport.can_write_eof():
                self._silent = True
                with contextlib.suppress(OSError):  # the client was faster
                    self._transport.write_eof()
            self._loop.call_later(limits.LINGER_S, self._shut)

    def _shut(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & frames.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Refused(frames.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _sized(kind: int, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise Refused(frames.FRAME_SIZE_ERROR, f"a frame of kind {kind} has {size} bytes, not {len(payload)}")


def _peer(name: Any) -> str:
    """In gRPC's form."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = str(name[0]), name[1]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    return "unknown" if name is None else f"unix:{name}"
