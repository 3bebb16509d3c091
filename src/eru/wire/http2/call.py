"""One call of one client: its messages, its answer, and what a handler sees as its context.

The methods of `Call` that handlers use have the names, shapes and errors of
`grpc.aio.ServicerContext`.
"""

from __future__ import annotations

import asyncio
import base64
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc

from eru.lib.http2.headers import Header, literal
from eru.wire import limits

if TYPE_CHECKING:
    from eru.wire.http2.connection import Connection

Metadata = tuple[tuple[str, str | bytes], ...]

_PREFIX_BYTES = 5  # in front of each message: compressed or not, and its length
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_COMPRESSED_BITS = {b"gzip": 31, b"deflate": 15}  # zlib's window bits
# `:status: 200` and `content-type: application/grpc`, both with indexes of the static table
_ANSWER = b"\x88\x0f\x10\x10application/grpc"
_STATUS_OK = literal(b"grpc-status", b"0")
_RESERVED = ("grpc-", ":")

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED = 0, 1, 2, 4
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13


class Ended(Exception):
    """The call ends with this status before its handler could be asked."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class Call:
    """See the module. `window`: bytes that the client still takes on this stream."""

    def __init__(self, connection: Connection, id: int, window: int, path: bytes, headers: list[Header]) -> None:
        self.connection = connection
        self.id = id
        self.window = window
        self.path = path
        self.headers = headers
        self.handler: Any = None
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.deadline: float | None = None
        self.serialize: Callable[[Any], bytes] | None = None
        self.closed = False  # nothing is sent any more
        self.request_over = False  # the client has said everything
        self.credit = limits.STREAM_WINDOW_BYTES  # bytes the client may still send
        self.owed = 0  # bytes that came and were not given back to it yet
        self.backlog: deque[bytes] = deque()  # what the client's windows do not let through
        self._last: bytes | None = None  # trailers behind the backlog
        self._begun = False  # the first header block has gone
        self._trailing: Metadata = ()
        self._partly = bytearray()
        self._messages: deque[bytes] = deque()
        self._more: asyncio.Future[None] | None = None
        self._flushed: asyncio.Future[None] | None = None

    # What comes.

    def received(self, data: bytes) -> None:
        """Bytes of the request. Raises Ended."""
        if not self._partly and len(data) >= _PREFIX_BYTES and not data[0]:
            length = int.from_bytes(data[1:5], "big")
            if length + _PREFIX_BYTES == len(data) and length <= self.connection.message_bytes_max:
                self._messages.append(data[_PREFIX_BYTES:])  # the usual case: one message, whole, as it is
                self._wake()
                return
        self._partly += data
        while len(self._partly) >= _PREFIX_BYTES:
            length = int.from_bytes(self._partly[1:5], "big")
            if length > (most := self.connection.message_bytes_max):
                raise Ended(RESOURCE_EXHAUSTED, f"a message of {length} bytes is larger than max ({length} vs. {most})")
            end = _PREFIX_BYTES + length
            if len(self._partly) < end:
                break
            message = bytes(self._partly[_PREFIX_BYTES:end])
            self._messages.append(self._expanded(message) if self._partly[0] else message)
            del self._partly[:end]
        self._wake()

    def _expanded(self, message: bytes) -> bytes:
        encoding = next((value for name, value in self.headers if name == b"grpc-encoding"), b"identity")
        bits = _COMPRESSED_BITS.get(encoding)
        if bits is None:
            raise Ended(UNIMPLEMENTED, f"messages compressed with {encoding[:32]!r} are not understood")
        most = self.connection.message_bytes_max
        try:
            worker = zlib.decompressobj(bits)
            expanded = worker.decompress(message, most + 1)
        except zlib.error as error:
            raise Ended(INTERNAL, f"a compressed message cannot be read: {error}") from error
        if not worker.eof and len(expanded) <= most:
            raise Ended(INTERNAL, "a compressed message cannot be read: it has no end")
        if len(expanded) > most:
            raise Ended(RESOURCE_EXHAUSTED, f"a message is larger than max ({most} bytes) when it is unpacked")
        return expanded

    def finished(self) -> None:
        """The client has said everything. Raises Ended when a message is incomplete."""
        self.request_over = True
        self._wake()
        if self._partly:
            raise Ended(INTERNAL, "the request ends inside a message")

    def message(self) -> bytes:
        """The one message of a unary request. Raises Ended."""
        if len(self._messages) != 1:
            raise Ended(UNIMPLEMENTED, f"one message was expected, {len(self._messages)} came")
        return self._messages.popleft()

    @property
    def waiting_messages(self) -> int:
        """Whole messages that the handler has not taken yet."""
        return len(self._messages)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The messages of a streamed request."""
        while not self._messages:
            if self.request_over:
                raise StopAsyncIteration
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        message = self._messages.popleft()
        self.connection.taken(self)
        return message

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    # What a handler may use.

    def invocation_metadata(self) -> Metadata:
        """What the client sent along."""
        return metadata_of(self.headers)

    def time_remaining(self) -> float | None:
        """Seconds until the client gives up; None: never."""
        if self.deadline is None:
            return None
        return max(self.deadline - asyncio.get_running_loop().time(), 0.0)

    def peer(self) -> str:
        """Who calls, in gRPC's form."""
        return self.connection.peer

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """The first header block, before any message. Never waits."""
        if not self._begun:
            self._begin(_encoded(metadata))

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """What travels with the status of a call that ends well."""
        self._trailing = tuple(metadata)

    def offer(self, message: Any) -> bool:
        """Send a message; True when the client has room for it, else `flushed` has to be awaited."""
        data = self.serialize(message) if self.serialize is not None else message
        if not self._begun:
            self._begin()
        return self._send(b"\0" + len(data).to_bytes(4, "big") + data)

    def offer_framed(self, framed: bytes) -> bool:
        """As `offer`, of serialised messages that have their prefixes already."""
        if not self._begun:
            self._begin()
        return self._send(framed)

    async def flushed(self) -> None:
        """Wait until everything has left."""
        while self.backlog and not self.closed:
            self._flushed = self._flushed or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._flushed)

    async def write(self, message: Any) -> None:
        """Send a message, and wait for room."""
        if not self.offer(message):
            await self.flushed()

    async def abort(self, code: Any, details: str = "", trailing: Iterable[tuple[str, str | bytes]] = ()) -> NoReturn:
        """End the call with a failure. Waits until that has left; InternalError when the client is gone first."""
        self._end(code.value[0], details, tuple(trailing) or self._trailing)
        await self.flushed()
        if self.backlog:
            raise grpc.aio.InternalError("the connection ended before the status was taken")
        raise grpc.aio.AbortError(details)

    # How it ends.

    def succeed(self) -> None:
        """The status OK behind everything else."""
        self._end(OK, "", self._trailing)

    def fail(self, number: int, text: str) -> None:
        """A status other than OK, if none was given yet."""
        self._end(number, text, ())

    def expired(self) -> None:
        """The client does not wait any longer: the status now, in place of what it has not taken."""
        self.backlog.clear()
        self._last = None
        self.fail(DEADLINE_EXCEEDED, "the deadline has passed")

    def _end(self, number: int, text: str, trailing: Metadata) -> None:
        if self.closed or self._last is not None:
            return
        block = b"" if self._begun else _ANSWER
        block += _STATUS_OK if number == OK else literal(b"grpc-status", str(number).encode())
        if text:
            block += literal(b"grpc-message", _percent(text))
        block += _encoded(trailing)
        self._begun = True
        if self.backlog:
            self._last = block
        else:
            self._leave(block)

    def _leave(self, block: bytes) -> None:
        self.connection.send_headers(self.id, block, end=True)
        self.connection.over(self)

    def _begin(self, metadata: bytes = b"") -> None:
        self._begun = True
        if not self.closed:
            self.connection.send_headers(self.id, _ANSWER + metadata, end=False)

    def _send(self, data: bytes) -> bool:
        if self.closed or self._last is not None:
            return True
        connection = self.connection
        size = len(data)
        if not self.backlog and connection.lets_pass(size) and size <= self.window:
            self.window -= size
            connection.send_data(self.id, data)
            return True
        self.backlog.append(data)
        connection.blocked(self)
        return connection.pump(self)

    def pumped(self) -> None:
        """The backlog has left."""
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
        self._flushed = None
        if self._last is not None and not self.closed:
            block, self._last = self._last, None
            self._leave(block)

    def shut(self) -> None:
        """Nothing can be sent any more, whoever decided that."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)


def metadata_of(headers: Iterable[Header]) -> Metadata:
    """Without what belongs to HTTP/2 and gRPC. Values of keys in `-bin` are bytes."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        key = name.decode("latin-1")
        if key.startswith(_RESERVED) or key in ("te", "content-type"):
            continue
        if key.endswith("-bin"):
            found.extend((key, _binary(part)) for part in value.split(b","))
        else:
            found.append((key, value.decode("latin-1")))
    return tuple(found)


def timeout_s(headers: Iterable[Header]) -> float | None:
    """How long the client waits; None: for ever. Raises Ended."""
    for name, value in headers:
        if name == b"grpc-timeout":
            told = _TIMEOUT.fullmatch(value)
            if told is None:
                raise Ended(INTERNAL, f"grpc-timeout {value[:32]!r} is not a time")
            return int(told[1]) * _UNIT_S[told[2]]
    return None


def _binary(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        return b""


def _encoded(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    block = b""
    for key, value in metadata:
        raw = value.encode() if isinstance(value, str) else value
        if key.endswith("-bin"):
            raw = base64.b64encode(raw).rstrip(b"=")
        block += literal(key.encode(), raw)
    return block


def _percent(text: str) -> bytes:
    """A status text in gRPC's form: what is not printable ASCII as %XX."""
    raw = text.encode(errors="replace")[: limits.METADATA_BYTES_MAX // 8]
    return b"".join(bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw)
