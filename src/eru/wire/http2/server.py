"""Listens, finds the handler of each call, runs it as a task, and stops politely."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import structlog

from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.wire.http2.call import CANCELLED, UNIMPLEMENTED, UNKNOWN, Call, Ended, Metadata
from eru.wire.http2.connection import Connection
from eru.wire.http2.sockets import bound, forget_path, identify_path, port_of

Gate = Callable[[str, Metadata], str]
"""(path, metadata) -> why the call is turned away with status UNKNOWN; "" when it may pass."""

PROBE_EVERY_S = 5.0  # how often connections are looked at for silence
LISTEN_BACKLOG = 1_024  # connections that wait to be accepted

_log = structlog.get_logger(__name__)


class Http2Server:
    """A gRPC server. `message_bytes_max`: of one request message; `streams_max`: calls at once of one connection."""

    def __init__(self, world: World, gate: Gate, *, message_bytes_max: int, streams_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        self.streams_max = streams_max
        self._world = world
        self._gate = gate
        self._handlers: dict[bytes, Any] = {}
        self._connections: set[Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._tasks = TaskOwner("http2")
        self._calls = TaskOwner("rpc")
        self._empty = asyncio.Event()
        self._stopping = False
        self._address = ""
        self._path_identity: tuple[int, int] | None = None

    # As a grpc server, for generated code.

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Handlers by method name."""
        for name, handler in handlers.items():
            self._handlers[f"/{service}/{name}".encode()] = handler

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Generated code offers the same handlers twice."""

    # Listening.

    async def start(self, address: str, tls: ssl.SSLContext | None, *, reuse_port: bool) -> int:
        """Listen on `host:port` or `unix:/path`; the port, 0 for a path.

        Raises OSError, and ValueError for an address of another form.
        """
        loop = asyncio.get_running_loop()
        sockets = bound(address, reuse_port=reuse_port)
        self._address, self._path_identity = address, identify_path(address)
        for each in sockets:
            create = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
            self._listeners.append(await create(self._connected, sock=each, ssl=tls, backlog=LISTEN_BACKLOG))
        self._tasks.start("probe", self._probe())
        return port_of(sockets)

    def _connected(self) -> Connection:
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    def lost(self, connection: Connection) -> None:
        """See `connection.Host`."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def _probe(self) -> None:
        while True:
            await self._world.clock.sleep(PROBE_EVERY_S)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                connection.probe(now)

    async def stop(self, grace_s: float | None) -> None:
        """No new calls; wait up to `grace_s` for those that run, then end them without a word."""
        for listener in self._listeners:
            listener.close()
        forget_path(self._address, self._path_identity)
        for connection in list(self._connections):
            connection.go_away()
        if self._connections and grace_s:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.close()
        await self._tasks.close()

    # Calls.

    def accept(self, call: Call) -> None:
        """See `connection.Host`."""
        call.handler = self._handlers.get(call.path)
        if why := self._gate(call.path.decode("latin-1"), call.invocation_metadata()):
            raise Ended(UNKNOWN, why)
        if call.handler is None:
            raise Ended(UNIMPLEMENTED, f"there is no method {call.path.decode('latin-1')[:200]}")
        call.serialize = call.handler.response_serializer

    def begin(self, call: Call) -> None:
        """See `connection.Host`."""
        call.task = self._calls.start(call.path.decode("latin-1"), self._run(call))

    async def _run(self, call: Call) -> None:
        try:
            await _answer(call)
            call.succeed()
        except grpc.aio.AbortError:
            return  # the handler has said how it ends
        except Ended as ended:
            call.fail(ended.number, str(ended))
        except asyncio.CancelledError:
            call.fail(CANCELLED, "the call was cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - the edge: whatever a handler does, the server goes on
            _log.error("handler failed", rpc=call.path.decode("latin-1"), exc_info=error)
            call.fail(UNKNOWN, "the call failed inside the server")


async def _answer(call: Call) -> None:
    handler = call.handler
    deserialize = handler.request_deserializer
    request: Any
    if handler.request_streaming:
        request = call if deserialize is None else _deserialized(call, deserialize)
        behaviour = handler.stream_stream or handler.stream_unary
    else:
        request = call.message() if deserialize is None else deserialize(call.message())
        behaviour = handler.unary_stream or handler.unary_unary
    answer = behaviour(request, call)
    if inspect.isasyncgen(answer):
        async with contextlib.aclosing(answer):
            async for message in answer:
                await call.write(message)
        return
    message = await answer
    if not handler.response_streaming:
        call.offer(message)


async def _deserialized(call: Call, deserialize: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for data in call:
        yield deserialize(data)


def tls_context(cert: bytes, key: bytes, client_ca: bytes) -> ssl.SSLContext:
    """For a server, from PEM texts; with `client_ca` clients must show a certificate. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # only this user may look in, and OpenSSL takes files only
        path = Path(folder) / "pair.pem"
        path.touch(0o600)
        path.write_bytes(key + b"\n" + cert)
        context.load_cert_chain(path)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context
