"""A small HTTP/1.1 client for one engine socket: calls, endless answers, upgraded connections.

The agent speaks to a Docker that is nearly always local, hundreds of times a
minute, and has to stay small; a general HTTP library costs a quarter of the
agent's memory allowance.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from eru.agent.settings import TlsSettings
from eru.model.errors import EngineMissing, EngineRefused, EngineUnreachable, InvalidInput

READ_LIMIT = 256 << 10  # bytes buffered per connection
READ_SIZE = 128 << 10
IDLE_MAX = 4  # kept-open connections
BODY_MAX = 64 << 20  # bytes of one answer held in memory
_NEWEST = (1, 47)
_PARSE_ERRORS = (ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Head(msgspec.Struct):
    """Status line and headers (lower-case names) of an answer."""

    status: int
    headers: dict[str, str]

    @property
    def reusable(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class _Link(msgspec.Struct):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def parse_head(raw: bytes) -> Head:
    """The head of an answer, without its empty line. Raises ValueError."""
    lines = raw.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1."):
        raise ValueError(f"not an HTTP answer: {lines[0][:80]!r}")
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.strip().lower()] = value.strip()
    return Head(int(parts[1]), headers)


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Raises ValueError or IncompleteReadError for anything that is not one."""
    return parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])


class Dechunker:
    """Takes HTTP chunk framing off. Docker makes one chunk per log line, so this must not wait per chunk."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # bytes of the present chunk still to come, with its line end
        self._last = False
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The payload in these bytes. Raises ValueError for broken framing."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        out = []
        at, end = 0, len(data)
        while at < end and not self.ended:
            if self._left:
                take = min(self._left, end - at)
                # the last two bytes of a chunk are its line end, not payload
                payload = min(take, max(self._left - 2, 0))
                if payload:
                    out.append(data[at : at + payload])
                at += take
                self._left -= take
                continue
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._rest = data[at:]
                if len(self._rest) > 1024:
                    raise ValueError("endless chunk head")
                break
            line, at = data[at:line_end], line_end + 2
            if self._last:
                self.ended = not line  # after the trailers
                continue
            size = int(line.split(b";")[0], 16)
            self._left = size + 2 if size else 0
            self._last = not size
        return b"".join(out)


async def body_chunks(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """The body's bytes as they come, whatever its framing."""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        dechunker = Dechunker()
        while not dechunker.ended:
            raw = await reader.read(READ_SIZE)
            if not raw:
                raise asyncio.IncompleteReadError(b"", None)
            if payload := dechunker.feed(raw):
                yield payload
        return
    left = int(head.headers["content-length"]) if "content-length" in head.headers else -1
    if head.status in (204, 304):
        left = 0
    while left:
        part = await reader.read(min(left, READ_SIZE) if left > 0 else READ_SIZE)
        if not part:
            if left > 0:
                raise asyncio.IncompleteReadError(b"", left)
            return
        left -= len(part) if left > 0 else 0
        yield part


class DockerHTTP:
    """Requests to one endpoint. Every call is bounded by `timeout_s` seconds unless told otherwise."""

    def __init__(self, endpoint: str, timeout_s: float, tls: TlsSettings | None = None) -> None:
        url = urlsplit(endpoint)
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.path = url.path if url.scheme == "unix" else ""
        self.host, self.port = url.hostname or "127.0.0.1", url.port or 2375
        wanted = url.scheme == "https" or (tls is not None and bool(tls.ca or tls.cert))
        self.ssl = _ssl_context(tls or TlsSettings()) if wanted and not self.path else None
        self.version = ""
        self._idle: list[_Link] = []

    def prefix(self) -> str:
        """`/v1.41` once `negotiate` has run."""
        return self.version

    async def negotiate(self) -> None:
        """Choose the newest API version that both sides know; does nothing the second time."""
        if self.version:
            return
        answer = await self.json("GET", "/version", versioned=False)
        newest = _version(answer.get("ApiVersion", "1.41"))
        oldest = _version(answer.get("MinAPIVersion", "1.12"))
        chosen = max(min(newest, _NEWEST), oldest)
        self.version = f"/v{chosen[0]}.{chosen[1]}"

    async def json(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        *,
        versioned: bool = True,
        timeout_s: float | None = None,
    ) -> Any:
        """The decoded answer. Raises EngineUnreachable, EngineMissing or EngineRefused."""
        raw = await self.call(method, path, query, body, versioned=versioned, timeout_s=timeout_s)
        try:
            return msgspec.json.decode(raw) if raw else None
        except msgspec.DecodeError as error:
            raise EngineRefused(f"engine {self.endpoint} answered {path} with broken JSON: {error}") from error

    async def call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        *,
        versioned: bool = True,
        timeout_s: float | None = None,
    ) -> bytes:
        """The answer's body. Raises as `json`."""
        limit = self.timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(limit):
                return await self._call(method, self._target(path, query, versioned), body)
        except TimeoutError:
            raise EngineUnreachable(f"engine {self.endpoint} did not answer {path} within {limit:g}s") from None
        except (OSError, *_PARSE_ERRORS) as error:
            raise EngineUnreachable(f"engine {self.endpoint} cannot be reached: {_why(error)}") from error

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, query: dict[str, str] | None = None, *, timeout_s: float | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """An endless answer as an iterator of byte chunks on its own connection; `timeout_s`: until it begins.

        Raises as `json`; while iterating, EngineUnreachable when the connection breaks.
        """
        link = None
        try:
            async with asyncio.timeout(self.timeout_s if timeout_s is None else timeout_s):
                link = await self._connect()
                link.writer.write(_request(method, self._target(path, query, True), None, close=True))
                head = await read_head(link.reader)
                if head.status >= 400:
                    raise refusal(self.endpoint, path, head.status, await _whole(link.reader, head))
            yield self._guarded(link.reader, head)
        except TimeoutError:
            raise EngineUnreachable(f"engine {self.endpoint} did not answer {path} in time") from None
        except (OSError, *_PARSE_ERRORS) as error:
            raise EngineUnreachable(f"engine {self.endpoint} cannot be reached: {_why(error)}") from error
        finally:
            if link is not None:
                link.writer.transport.abort()

    async def upgrade(self, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw two-way connection, as exec uses it. The caller closes the writer."""
        link = None
        try:
            async with asyncio.timeout(self.timeout_s):
                link = await self._connect()
                link.writer.write(_request("POST", self._target(path, None, True), body, upgrade=True))
                head = await read_head(link.reader)
                if head.status >= 400:
                    raise refusal(self.endpoint, path, head.status, await _whole(link.reader, head))
                return link.reader, link.writer
        except BaseException as error:
            if link is not None:
                link.writer.transport.abort()
            if isinstance(error, (OSError, *_PARSE_ERRORS)):
                raise EngineUnreachable(f"engine {self.endpoint} cannot be reached: {_why(error)}") from error
            raise

    async def open(self, protocol: Callable[[], asyncio.Protocol]) -> tuple[asyncio.BaseTransport, asyncio.Protocol]:
        """A bare connection with the caller's own protocol on it. Raises EngineUnreachable."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout_s):
                if self.path:
                    return await loop.create_unix_connection(protocol, self.path)
                return await loop.create_connection(protocol, self.host, self.port, ssl=self.ssl)
        except (OSError, TimeoutError) as error:
            raise EngineUnreachable(f"engine {self.endpoint} cannot be reached: {_why(error)}") from error

    def upgrade_request(self, path: str, query: dict[str, str]) -> bytes:
        """The bytes that ask for an attach on a bare connection."""
        return _request("POST", self._target(path, query, True), None, upgrade=True)

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().writer.transport.abort()

    def _target(self, path: str, query: dict[str, str] | None, versioned: bool) -> str:
        return (self.version if versioned else "") + path + ("?" + urlencode(query) if query else "")

    async def _connect(self) -> _Link:
        if self.path:
            return _Link(*await asyncio.open_unix_connection(self.path, limit=READ_LIMIT))
        return _Link(*await asyncio.open_connection(self.host, self.port, ssl=self.ssl, limit=READ_LIMIT))

    async def _call(self, method: str, target: str, body: Any) -> bytes:
        while self._idle:
            link = self._idle.pop()
            if link.reader.at_eof() or link.writer.is_closing():
                link.writer.transport.abort()
                continue
            try:
                return await self._on(link, method, target, body)
            except (OSError, asyncio.IncompleteReadError):
                if method != "GET":
                    raise  # sent perhaps; only questions are asked twice
        return await self._on(await self._connect(), method, target, body)

    async def _on(self, link: _Link, method: str, target: str, body: Any) -> bytes:
        keep = False
        try:
            link.writer.write(_request(method, target, body))
            head = await read_head(link.reader)
            raw = await _whole(link.reader, head)
            keep = head.reusable and ("content-length" in head.headers or "transfer-encoding" in head.headers)
            if head.status >= 400:
                raise refusal(self.endpoint, target, head.status, raw)
            return raw
        finally:
            if keep and len(self._idle) < IDLE_MAX:
                self._idle.append(link)
            else:
                link.writer.transport.abort()

    async def _guarded(self, reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
        try:
            async for part in body_chunks(reader, head):
                yield part
        except (OSError, *_PARSE_ERRORS) as error:
            raise EngineUnreachable(f"engine {self.endpoint} broke off: {_why(error)}") from error


def refusal(endpoint: str, path: str, status: int, raw: bytes) -> EngineMissing | EngineRefused:
    """The error for an answer of 400 and more, in the engine's own words."""
    try:
        words = str(json.loads(raw).get("message", ""))
    except (ValueError, AttributeError):
        words = raw[:200].decode("utf-8", "replace")
    if "HTTP request to an HTTPS server" in words:
        words = "it speaks TLS only: set docker.tls.ca, .cert and .key"
    kind = EngineMissing if status == 404 else EngineRefused
    return kind(f"engine {endpoint}: {words or f'status {status} for {path}'}")


async def _whole(reader: asyncio.StreamReader, head: Head) -> bytes:
    parts, size = [], 0
    async for part in body_chunks(reader, head):
        parts.append(part)
        size += len(part)
        if size > BODY_MAX:
            raise ValueError(f"answer is larger than {BODY_MAX} bytes")
    return b"".join(parts)


def _request(method: str, target: str, body: Any, *, upgrade: bool = False, close: bool = False) -> bytes:
    raw = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {target} HTTP/1.1", "Host: docker"]
    if upgrade:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    elif close:
        lines.append("Connection: close")
    if raw:
        lines.append("Content-Type: application/json")
    if raw or method == "POST":
        lines.append(f"Content-Length: {len(raw)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + raw


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _why(error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return f"{error}: run the agent as root, or as a member of the group that the socket belongs to"
    return str(error) or type(error).__name__


def _ssl_context(tls: TlsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key or None)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"docker.tls {tls.ca} {tls.cert} cannot be used: {error}") from error
    return context
