"""A small HTTP/1.1 server for a handful of read-only routes.

Not a general server: GET only, no bodies, one request after the other per
connection. It costs no memory worth naming, which a framework would.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import structlog

HEAD_BYTES_MAX = 16 << 10
HEAD_WAIT_S = 3.0  # for a request's head once it has begun
IDLE_S = 75.0  # between two requests of one connection
CONNECTIONS_MAX = 256
WRITE_BUFFER_MAX = 256 << 10  # bytes waiting in one connection

_log = structlog.get_logger(__name__)


class Request(msgspec.Struct, frozen=True):
    """What was asked for. `query`: the last value of each name counts."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    http11: bool


class Answer(msgspec.Struct, frozen=True):
    """What to say. With `stream` the body is endless and the connection closes after it."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = {}
    stream: AsyncGenerator[bytes, None] | None = None


Handler = Callable[[Request], Awaitable[Answer]]


class HttpServer:
    """Serves `routes`: a path ending in `/` also answers deeper paths, its slashless form redirects to it.

    Other methods than GET are refused, except for HEAD and POST on `any_method`.
    """

    def __init__(
        self,
        routes: Mapping[str, Handler],
        token: str = "",
        open_paths: frozenset[str] = frozenset(),
        any_method: frozenset[str] = frozenset(),
    ) -> None:
        self._routes = routes
        self._any_method = any_method
        self._token = token.encode()
        self._open_paths = open_paths
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; the port it got. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(writer)
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_MAX)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went or sent nothing sensible: there is nobody to tell
        finally:
            self._connections.discard(writer)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow on this connection."""
        async with asyncio.timeout(IDLE_S):
            first = await reader.readexactly(1)
        async with asyncio.timeout(HEAD_WAIT_S):
            head = first + await reader.readuntil(b"\r\n\r\n")
        request = parse_request(head)
        if request is None:
            await _write(writer, Answer(400), http11=True, keep=False, head_only=False)
            return False
        keep = request.http11 and request.headers.get("connection", "").lower() != "close"
        keep = keep and "content-length" not in request.headers and "transfer-encoding" not in request.headers
        answer = await self._answer(request)
        if answer.stream is not None:
            await _write_stream(reader, writer, answer, request.http11)
            return False
        await _write(writer, answer, request.http11, keep, request.method == "HEAD")
        return keep

    async def _answer(self, request: Request) -> Answer:
        if self._token and request.path not in self._open_paths and not self._allowed(request):
            return Answer(401, headers={"WWW-Authenticate": "Bearer"})
        handler = self._routes.get(request.path)
        if handler is None and request.path + "/" in self._routes:
            query = urlencode(request.query)
            return Answer(301, headers={"Location": request.path + "/" + ("?" + query if query else "")})
        if handler is None:
            deeper = [path for path in self._routes if path.endswith("/") and request.path.startswith(path)]
            handler = self._routes[max(deeper, key=len)] if deeper else None
        if handler is None:
            return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
        if request.method != "GET" and not (request.method in ("HEAD", "POST") and request.path in self._any_method):
            return Answer(405, b"Method Not Allowed\n", "text/plain; charset=utf-8", headers={"Allow": "GET"})
        return await handler(request)

    def _allowed(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        return hmac.compare_digest(given, self._token)


def parse_request(head: bytes) -> Request | None:
    """A request from its head, or None if it is not one."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
        return None
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    try:
        url = urlsplit(parts[1])
    except ValueError:
        return None
    return Request(parts[0], url.path, dict(parse_qsl(url.query)), headers, parts[2] != "HTTP/1.0")


async def _write(writer: asyncio.StreamWriter, answer: Answer, http11: bool, keep: bool, head_only: bool) -> None:
    writer.write(_head(answer, http11, f"Content-Length: {len(answer.body)}", keep))
    if not head_only:
        writer.write(answer.body)
    await writer.drain()


async def _write_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer, http11: bool
) -> None:
    """Each item of the stream is one chunk; ends when the client goes, even if nothing is ever said."""
    assert answer.stream is not None
    writer.write(_head(answer, http11, "Transfer-Encoding: chunked" if http11 else "", keep=False))
    loop = asyncio.get_running_loop()
    sender = loop.create_task(_send_all(writer, answer.stream, http11), name="http stream")
    gone = loop.create_task(reader.read(1), name="http client gone")
    try:
        await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, gone):
            task.cancel()
        await asyncio.gather(sender, gone, return_exceptions=True)
        writer.transport.abort()


async def _send_all(writer: asyncio.StreamWriter, stream: AsyncGenerator[bytes, None], http11: bool) -> None:
    async with aclosing(stream):
        async for item in stream:
            writer.write(b"%X\r\n%b\r\n" % (len(item), item) if http11 else item)
            await writer.drain()


def _head(answer: Answer, http11: bool, length: str, keep: bool) -> bytes:
    reason = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.{int(http11)} {answer.status} {reason}", *(f"{n}: {v}" for n, v in answer.headers.items())]
    if answer.content_type:
        lines.append(f"Content-Type: {answer.content_type}")
    if length:
        lines.append(length)
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
