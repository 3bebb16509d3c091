"""The local Docker as the agent uses it: state, events, probes inside, live and past output."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import msgspec

from eru.agent.docker_http import DockerHTTP, parse_head, refusal
from eru.agent.runtime import Attachment, Feed, PastLine
from eru.agent.settings import DockerSettings
from eru.engine.contract import Chunk, EngineEvent, Inspection, Listed, Session, Stream
from eru.model.errors import EngineError, EngineRefused, EngineUnreachable

FRAME = struct.Struct(">BxxxL")
HEAD_MAX = 64 << 10  # bytes of an answer's head
TAIL_LINES = 20_000  # kept lines that are looked through from the end of a log first
TAIL_BYTES = 8 << 20  # more than this is not held, but read again line by line
LONG_TAIL_LINES = 500_000
KEPT_ANSWER_S = 60.0  # a log is looked through before its first line is answered; the attach holds what comes meanwhile
LINE_MAX = 8 << 20  # bytes of one kept line put together from its parts
EVENTS = ["create", "attach", "start", "die", "destroy", "pause", "unpause", "connect", "disconnect"]


class _State(msgspec.Struct, rename="pascal"):
    running: bool = False
    paused: bool = False
    pid: int = 0
    exit_code: int = 0
    started_at: str = ""


class _Config(msgspec.Struct, rename="pascal"):
    env: list[str] | None = None
    labels: dict[str, str] | None = None
    user: str = ""
    image: str = ""
    tty: bool = False


class _Address(msgspec.Struct, rename="pascal"):
    ip_address: str = msgspec.field(name="IPAddress", default="")
    v6: str = msgspec.field(name="GlobalIPv6Address", default="")


class _Networks(msgspec.Struct, rename="pascal"):
    networks: dict[str, _Address | None] | None = None


class _Container(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="Id")
    name: str = ""
    state: _State = msgspec.field(default_factory=_State)
    config: _Config = msgspec.field(default_factory=_Config)
    network_settings: _Networks = msgspec.field(default_factory=_Networks)


class _Row(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="Id")
    names: list[str] | None = None
    labels: dict[str, str] | None = None
    state: str = ""


_container = msgspec.json.Decoder(_Container)
_rows = msgspec.json.Decoder(list[_Row])


class DockerRuntime:
    """Implements `Runtime` and `LogSource` on one Docker endpoint."""

    type = "docker"

    def __init__(self, settings: DockerSettings, timeout_s: float) -> None:
        self.http = DockerHTTP(settings.endpoint, timeout_s, settings.tls)

    @property
    def same_clock(self) -> bool:
        return bool(self.http.path)  # a unix socket: the same machine

    async def ping(self) -> None:
        await self.http.negotiate()
        await self.http.call("GET", "/_ping", versioned=False)

    async def close(self) -> None:
        await self.http.close()

    async def find(self, labels: Mapping[str, str], *, running_only: bool = False) -> list[Listed]:
        await self.http.negotiate()
        filters = json.dumps({"label": [f"{k}={v}" if v else k for k, v in labels.items()]})
        query = {"filters": filters} | ({} if running_only else {"all": "1"})
        raw = await self.http.call("GET", "/containers/json", query)
        return [
            Listed(
                id=row.id,
                name=(row.names or [""])[0].lstrip("/"),
                running=row.state in ("running", "paused"),
                labels=row.labels or {},
            )
            for row in self._decoded(_rows, raw)
        ]

    async def inspect(self, id_or_name: str) -> Inspection:
        await self.http.negotiate()
        found = self._decoded(_container, await self.http.call("GET", f"/containers/{id_or_name}/json"))
        networks = found.network_settings.networks or {}
        running = found.state.running and found.state.pid != 0
        shown = running or not parse_time_ns(found.state.started_at)  # before the start the names are known already
        return Inspection(
            id=found.id,
            name=found.name.lstrip("/"),
            running=running,
            user=found.config.user,
            image=found.config.image,
            env=found.config.env or [],
            labels=found.config.labels or {},
            networks={n: (a.ip_address or a.v6) if a else "" for n, a in networks.items()} if shown else {},
            exit_code=found.state.exit_code,
            started_at=parse_time_ns(found.state.started_at) / 1e9,
            pid=found.state.pid,
            tty=found.config.tty,
            paused=found.state.paused,
        )

    async def events(self, labels: Mapping[str, str], since_ns: int = 0) -> AsyncIterator[EngineEvent]:
        """Container events with `labels`; a changed network comes as action `network`.

        The first item has no id and action `subscribed`: from here on nothing is missed.
        """
        await self.http.negotiate()
        query = {"filters": json.dumps({"type": ["container", "network"], "event": EVENTS})}
        if since_ns:
            query["since"] = f"{since_ns // 1_000_000_000}.{since_ns % 1_000_000_000:09d}"
        async with self.http.stream("GET", "/events", query) as chunks:
            yield EngineEvent(id="", action="subscribed", time_ns=0)
            rest = b""
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip() and (event := _event(line, labels)) is not None:
                        yield event
        raise EngineUnreachable(f"engine {self.http.endpoint} ended its event stream")

    async def exec(self, id: str, commands: Sequence[str]) -> Session:
        await self.http.negotiate()
        made = await self.http.json(
            "POST",
            f"/containers/{id}/exec",
            body={"AttachStdout": True, "AttachStderr": True, "Cmd": list(commands)},
        )
        reader, writer = await self.http.upgrade(f"/exec/{made['Id']}/start", {"Detach": False, "Tty": False})
        return _Exec(self.http, str(made["Id"]), reader, writer)

    async def attach(self, id: str, feed: Feed, *, timeout_s: float | None = None) -> Attachment:
        await self.http.negotiate()
        query = {"stream": "1", "stdout": "1", "stderr": "1", "logs": "0"}
        request = self.http.upgrade_request(f"/containers/{id}/attach", query)
        connection = AttachConnection(self.http.endpoint, id, request, feed)
        await self.http.open(lambda: connection)
        try:
            async with asyncio.timeout(self.http.timeout_s if timeout_s is None else timeout_s):
                await connection.answered
        except TimeoutError:
            connection.close()
            raise EngineUnreachable(f"engine {self.http.endpoint} did not answer the attach in time") from None
        except BaseException:
            connection.close()
            raise
        return connection

    async def history(
        self, id: str, *, tty: bool, since_ns: int, recent: bool = False
    ) -> AsyncIterator[list[PastLine]]:
        """Docker scans a log from its beginning for `since`, but finds its end fast: try the end first."""
        await self.http.negotiate()
        last: list[PastLine] = []
        size = 0
        async with aclosing(self._kept(id, tty, {"tail": str(TAIL_LINES), "since": _stamp(since_ns)})) as batches:
            async for lines in batches:
                if recent:
                    yield lines
                    continue
                last.extend(lines)
                size += sum(len(line.data) for line in lines)
                if size > TAIL_BYTES:
                    break
        if recent:
            return
        if len(last) < TAIL_LINES // 2 and size <= TAIL_BYTES:  # lines kept in several parts count several times
            if last:
                yield last
            return
        last.clear()
        query = (
            {"tail": str(LONG_TAIL_LINES)} if await self._reaches(id, tty, since_ns) else {"since": _stamp(since_ns)}
        )
        async for lines in self._kept(id, tty, query):
            if kept := [line for line in lines if line.time_ns >= since_ns]:
                yield kept

    async def _reaches(self, id: str, tty: bool, since_ns: int) -> bool:
        """Whether the long tail of the log begins before `since_ns`."""
        async with aclosing(self._kept(id, tty, {"tail": str(LONG_TAIL_LINES)})) as batches:
            async for lines in batches:
                return lines[0].time_ns <= since_ns
        return False

    async def _kept(self, id: str, tty: bool, query: dict[str, str]) -> AsyncGenerator[list[PastLine], None]:
        parser = HistoryParser(tty)
        asked = {"stdout": "1", "stderr": "1", "timestamps": "1"} | query
        patience_s = max(self.http.timeout_s, KEPT_ANSWER_S)
        async with self.http.stream("GET", f"/containers/{id}/logs", asked, timeout_s=patience_s) as chunks:
            async for chunk in chunks:
                if lines := parser.feed(chunk):
                    yield lines
        if lines := parser.rest():
            yield lines

    def _decoded(self, decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
        try:
            return decoder.decode(raw)
        except msgspec.MsgspecError as error:
            raise EngineRefused(f"engine {self.http.endpoint} answered what cannot be read: {error}") from error


class AttachConnection(asyncio.Protocol):
    """Asks for the attach, checks the answer, then hands every byte to the feed."""

    def __init__(self, endpoint: str, id: str, request: bytes, feed: Feed) -> None:
        self._endpoint = endpoint
        self._id = id
        self._request = request
        self._feed = feed
        self._head: bytes | None = b""
        self._failed = 0
        self._transport: asyncio.Transport | None = None
        self._done = False
        self._paused = False
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            if not self._done:
                self._feed.output(data)
            return
        self._head += data
        raw, separator, rest = self._head.partition(b"\r\n\r\n")
        if not separator:
            if len(self._head) > HEAD_MAX:
                self._fail(EngineRefused(f"engine {self._endpoint} answered the attach with an endless head"))
            return
        try:
            head = parse_head(raw)
        except ValueError as error:
            self._fail(EngineRefused(f"engine {self._endpoint}: {error}"))
            return
        if head.status not in (101, 200):
            self._fail(refusal(self._endpoint, "attach", head.status, rest))
            return
        self._head = None
        if not self.answered.done():
            self.answered.set_result(None)
        if rest:
            self._feed.output(rest)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head is not None:
            self._fail(EngineUnreachable(f"engine {self._endpoint} closed the attach before its answer"))
        elif not self._done:
            self._done = True
            self._feed.ended(exc)

    def pause(self) -> None:
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        self._done = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: EngineError) -> None:
        self._done = True
        if not self.answered.done():
            self.answered.set_exception(error)
        if self._transport is not None:
            self._transport.abort()


class _Exec:
    """One command inside a container: its output, then its exit code."""

    def __init__(self, http: DockerHTTP, id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._http, self._id, self._reader, self._writer = http, id, reader, writer

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while head := await self._reader.read(FRAME.size):
            if len(head) < FRAME.size:
                head += await self._reader.readexactly(FRAME.size - len(head))
            kind, size = FRAME.unpack(head)
            stream = Stream.STDERR if kind == 2 else Stream.STDOUT
            while size:
                part = await self._reader.read(min(size, 1 << 16))
                if not part:
                    return
                size -= len(part)
                yield Chunk(stream, part)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close_input(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def resize(self, height: int, width: int) -> None:
        query = {"h": str(height), "w": str(width)}
        await self._http.call("POST", f"/exec/{self._id}/resize", query)

    async def exit_code(self) -> int:
        answer = await self._http.json("GET", f"/exec/{self._id}/json")
        code = answer.get("ExitCode")
        return -1 if code is None else int(code)

    async def close(self) -> None:
        self._writer.transport.abort()


def parse_time_ns(text: str) -> int:
    """Nanoseconds since the epoch of Docker's RFC 3339 text; 0 for `never`."""
    if len(text) == 30 and text[29] == "Z":  # the form of nearly every kept line
        return _seconds(text[:19] + "+00:00") * 1_000_000_000 + int(text[20:29])
    stem, _, tail = text.partition(".")
    digits = tail.rstrip("Zz")
    offset = ""
    for sign in ("+", "-"):
        if sign in digits:
            digits, _, offset = digits.partition(sign)
            offset = sign + offset
    seconds = _seconds(stem.rstrip("Zz") + (offset or "+00:00"))
    return seconds * 1_000_000_000 + int((digits + "0" * 9)[:9]) if seconds > 0 else 0


@lru_cache(maxsize=64)
def _seconds(text: str) -> int:
    """Whole seconds since the epoch; lines of one second share the work. 0: not a time."""
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp())
    except ValueError:
        return 0


def _stamp(ns: int) -> str:
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09d}"


def _event(line: bytes, labels: Mapping[str, str]) -> EngineEvent | None:
    try:
        raw = msgspec.json.decode(line)
        attributes: dict[str, str] = raw["Actor"]["Attributes"] or {}
        time_ns = int(raw.get("timeNano", 0))
        if raw["Type"] == "network":
            return EngineEvent(id=attributes.get("container", ""), action="network", time_ns=time_ns)
        for key, value in labels.items():
            if key not in attributes or (value and attributes[key] != value):
                return None
        return EngineEvent(id=raw["Actor"]["ID"], action=raw["Action"], time_ns=time_ns, labels=attributes)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None  # an event of another shape says nothing to us


class HistoryParser:
    """Kept output with timestamps, back into lines.

    Docker keeps a long line in several entries, all but the last without a
    newline; each entry has its own timestamp. A tty's log has no frames.
    """

    def __init__(self, tty: bool) -> None:
        self._tty = tty
        self._rest = b""
        self._open: dict[int, tuple[list[int], list[bytes], int]] = {}  # stream -> times, pieces, bytes

    def feed(self, chunk: bytes) -> list[PastLine]:
        """The lines completed by these bytes."""
        data = self._rest + chunk if self._rest else chunk
        out: list[PastLine] = []
        if self._tty:
            *entries, self._rest = data.split(b"\n")
            for entry in entries:
                self._entry(1, entry + b"\n", out)
            return out
        at, end = 0, len(data)
        while end - at >= 8:
            kind, size = FRAME.unpack_from(data, at)
            begin = at + 8
            if end - begin < size:
                break
            at = begin + size
            self._entry(kind, data[begin:at], out)
        self._rest = data[at:]
        return out

    def rest(self) -> list[PastLine]:
        """Lines that were never ended."""
        out: list[PastLine] = []
        if self._tty and self._rest:
            self._entry(1, self._rest, out)
        for stream, (times, parts, _) in self._open.items():
            sizes = tuple(zip(times, map(len, parts), strict=True))
            out.append(PastLine(stream, times[0], b"".join(parts), sizes))
        self._open = {}
        return out

    def _entry(self, stream: int, entry: bytes, out: list[PastLine]) -> None:
        stamp, _, data = entry.partition(b" ")
        time_ns = parse_time_ns(stamp.decode("ascii", "replace"))
        if data.endswith(b"\n") and not self._open:
            out.append(PastLine(stream, time_ns, data))
            return
        times, parts, size = self._open.pop(stream, ([], [], 0))
        times.append(time_ns)
        parts.append(data)
        size += len(data)
        if data.endswith(b"\n") or size > LINE_MAX:
            out.append(PastLine(stream, time_ns, b"".join(parts)))
        else:
            self._open[stream] = (times, parts, size)
