"""A two-way connection out of an HTTP request: Docker's exec and attach.

asyncio cannot half-close TLS, so TLS is done here over a plain connection:
the end of our input is a close_notify, after which output still arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from eru.engine.docker.http import DockerHttp, watch_peer
from eru.model.errors import EngineOutcomeUnknown, EngineUnreachable

READ_BYTES = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
REFUSAL_BYTES_MAX = 64 * 1024


class Pipe:
    """Bytes both ways over a plain connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> bytes:
        """Some bytes; none at the end."""
        return await self.reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def close_input(self) -> None:
        if self.writer.can_write_eof():
            self.writer.write_eof()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return  # it is closed, whatever the other side thinks


class TlsPipe(Pipe):
    """The same with TLS on top."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str
    ) -> None:
        super().__init__(reader, writer)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            else:
                await self._flush()
                return

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
            await self._flush()

    async def close_input(self) -> None:
        # It wants to read their close_notify, which comes with the end of the output.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        if self._out.pending:
            self.writer.write(self._out.read())
            await self.writer.drain()

    async def _feed(self) -> None:
        data = await self.reader.read(READ_BYTES)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()


async def hijack(http: DockerHttp, path: str, query: Mapping[str, str], body: Any) -> tuple[Pipe, bytes]:
    """POST and take over the connection; and what output came with the answer's head."""
    try:
        async with asyncio.timeout(http.connect_timeout_s):
            pipe = await _connect(http)
    except TimeoutError as error:
        raise EngineUnreachable(http.cannot_connect(error)) from error
    except OSError as error:
        raise EngineUnreachable(http.cannot_connect(error)) from error
    try:
        async with asyncio.timeout(http.connect_timeout_s):
            return pipe, await _upgrade(http, pipe, path, query, body)
    except (OSError, TimeoutError) as error:
        await pipe.close()
        raise EngineOutcomeUnknown(f"Docker at {http.address.place} did not answer in time: {error}") from error
    except BaseException:
        await pipe.close()
        raise


async def _connect(http: DockerHttp) -> Pipe:
    address = http.address
    if address.path:
        return Pipe(*await asyncio.open_unix_connection(address.path))
    reader, writer = await asyncio.open_connection(address.host, address.port)
    # The transport's own wrapper has no such option on every loop.
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as connection:
        watch_peer(connection)
    if http.context is None:
        return Pipe(reader, writer)
    pipe = TlsPipe(reader, writer, http.context, address.host)
    try:
        await pipe.handshake()
    except BaseException:
        await pipe.close()
        raise
    return pipe


async def _upgrade(http: DockerHttp, pipe: Pipe, path: str, query: Mapping[str, str], body: Any) -> bytes:
    content = msgspec.json.encode(body) if body is not None else b""
    target = http.path(path) + (f"?{urlencode(query)}" if query else "")
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {http.address.host or 'docker'}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    await pipe.write(head.encode() + content)
    data = b""
    while b"\r\n\r\n" not in data:
        part = await pipe.read()
        data += part
        if not part or len(data) > HEAD_BYTES_MAX:
            raise EngineOutcomeUnknown(f"Docker at {http.address.place} broke the connection")
    answer, _, rest = data.partition(b"\r\n\r\n")
    status = int(answer.split(b" ", 2)[1])
    if status in (101, 200):
        return rest
    chunked = b"transfer-encoding: chunked" in answer.lower()
    length = next(
        (int(line.partition(b":")[2]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")),
        0,
    )
    while len(rest) < length and len(rest) < REFUSAL_BYTES_MAX and (part := await pipe.read()):
        rest += part
    if chunked:
        rest = rest.partition(b"\r\n")[2].partition(b"\r\n")[0]
    raise http.refusal(status, rest)
