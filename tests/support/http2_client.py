"""A client of HTTP/2 by hand: the `h2` library for what is in order, raw frames for what is not."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
from h2.settings import SettingCodes

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame, right or wrong."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame; keys `_1` .. `_6`."""
    body = b"".join(int(key[1:]).to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    return frame(4, 0, 0, body)


def grpc_message(data: bytes, compressed: int = 0) -> bytes:
    """With gRPC's five bytes in front."""
    return bytes((compressed,)) + len(data).to_bytes(4, "big") + data


class Raw:
    """A socket and what came over it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = b""

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, *data: bytes) -> None:
        """Without waiting for anything."""
        self.writer.write(b"".join(data))

    async def closed(self, within_s: float = 60.0) -> bytes:
        """All that comes until the server closes. Raises TimeoutError when it does not."""
        async with asyncio.timeout(within_s):
            try:
                while data := await self.reader.read(65_536):
                    self.heard += data
            except ConnectionError:
                pass
        return self.heard

    async def hears(self, part: bytes, within_s: float = 60.0) -> None:
        """Wait for some bytes. Raises TimeoutError, EOFError."""
        async with asyncio.timeout(within_s):
            while part not in self.heard:
                data = await self.reader.read(65_536)
                if not data:
                    raise EOFError(f"closed before {part!r} came")
                self.heard += data


class Answer:
    """What one stream has got."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.data = b""
        self.over = False
        self.reset: int | None = None

    @property
    def status(self) -> str:
        return self.trailers.get("grpc-status") or self.headers.get("grpc-status", "")


class Client:
    """One connection by the `h2` library. Its windows are opened by hand when `reads` is False."""

    def __init__(self, port: int, *, reads: bool = True, **local: int) -> None:
        self.port = port
        self.reads = reads
        self.answers: dict[int, Answer] = {}
        self.ended: h2.events.ConnectionTerminated | None = None
        self.closed = False
        self._local = local
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.h2.initiate_connection()
        if self._local:
            self.h2.update_settings({SettingCodes(int(key[1:])): value for key, value in self._local.items()})
        self.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def flush(self) -> None:
        """Send what `h2` has ready."""
        self.writer.write(self.h2.data_to_send())

    def ask(self, path: str, *metadata: tuple[str, str], end: bool = False, **headers: Any) -> int:
        """Open a call; its stream."""
        stream = self.h2.get_next_available_stream_id()
        first = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        more = [("te", "trailers"), ("content-type", headers.get("content_type", "application/grpc"))]
        self.h2.send_headers(stream, [*first, *more, *metadata], end_stream=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def say(self, stream: int, data: bytes, *, end: bool = True, pad: int | None = None) -> None:
        """One DATA frame."""
        self.h2.send_data(stream, data, end_stream=end, pad_length=pad)
        self.flush()

    async def until(self, done: Any, within_s: float = 60.0) -> None:
        """Read until `done()`. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not done() and not self.closed:
                data = await self.reader.read(65_536)
                if not data:
                    self.closed = True
                    return
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()

    async def answer(self, stream: int) -> Answer:
        """The whole answer of a call."""
        found = self.answers[stream]
        await self.until(lambda: found.over or found.reset is not None)
        return found

    def _take(self, event: Any) -> None:
        found = self.answers.get(getattr(event, "stream_id", None) or 0, Answer())
        if isinstance(event, h2.events.ResponseReceived):
            found.headers = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            found.trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            found.data += event.data
            if self.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            found.over = True
        elif isinstance(event, h2.events.StreamReset):
            found.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.ended = event
