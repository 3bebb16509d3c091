"""The gRPC server around the handlers: bounds, accounting, status numbers, drain.

Nothing here knows what a call means. Each call runs in its own task with a
trace id bound to its log lines; errors of the model become status numbers
(`wire.status`), anything else is logged whole and answered with one sentence.
A client that leaves cancels its handler, one that stops reading is cut off.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol

import grpc
import msgspec
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import _async as reflection_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from eru.lib.world import World
from eru.model.errors import EruError, Expired, InvalidInput
from eru.wire import http2, limits, methods
from eru.wire.auth import BasicAuth
from eru.wire.failures import HEADER_BEGUN, METADATA_TTY, TRAILER_KIND, TRAILER_TRACE
from eru.wire.methods import Method, UnaryStream, UnaryUnary
from eru.wire.routes import Batch, Call, Route
from eru.wire.status import CANCELLED, INTERNAL, OK, UNAVAILABLE, NotOffered, Status, failure_of

_TRACE = re.compile(r"[0-9A-Za-z\-]{8,64}")
_HEALTH = "/grpc.health.v1.Health/"

# Frequent reports whose repetition changes nothing: their clients need not be told that they have begun.
_REPEATABLE = {methods.SetNodeStatus.path, methods.SetWorkloadsStatus.path}

_ANSWERS_IN_A_ROW = 64  # of one stream, before others get their turn

_log = structlog.get_logger(__name__)

Context = http2.Call


class ServerTLS(msgspec.Struct, frozen=True, kw_only=True):
    """PEM texts. With `client_ca`, clients must show a certificate signed by it."""

    cert: bytes
    key: bytes
    client_ca: bytes = b""

    def __repr__(self) -> str:
        return "ServerTLS(***)"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen, and the bounds. Sizes in bytes, times in seconds."""

    bind: str
    username: str = ""
    password: str = ""
    tls: ServerTLS | None = None
    message_bytes_max: int = limits.MESSAGE_BYTES_MAX
    streams_per_connection_max: int = limits.STREAMS_PER_CONNECTION_MAX
    calls_max: int = limits.CALLS_MAX
    call_limit_s: float = limits.CALL_LIMIT_S
    stall_s: float = limits.STALL_S
    drain_s: float = limits.DRAIN_S
    reuse_port: bool = False

    def __repr__(self) -> str:
        return f"ServerSettings(bind={self.bind!r}, ...)"


class Observer(Protocol):
    """Who wants to know about calls (metrics)."""

    def call_started(self, rpc: str) -> None: ...

    def call_ended(self, rpc: str, number: int, seconds: float) -> None: ...


class Unobserved:
    """An observer that looks away."""

    def call_started(self, rpc: str) -> None:
        return None

    def call_ended(self, rpc: str, number: int, seconds: float) -> None:
        return None


class _Running:
    """One call under way."""

    __slots__ = ("call", "drained", "number", "task")

    def __init__(self, call: Call, task: asyncio.Task[Any]) -> None:
        self.call = call
        self.task = task
        self.number = OK
        self.drained = False


class _Stalled(Expired):
    """The client does not read."""


class RpcServer:
    """Serves `routes` until drained. Methods without a route answer UNIMPLEMENTED."""

    def __init__(
        self, world: World, settings: ServerSettings, routes: Iterable[Route], observer: Observer | None = None
    ) -> None:
        self._world = world
        self._settings = settings
        self._observer: Observer = observer or Unobserved()
        self._auth = BasicAuth(settings.username, settings.password)
        self._running: set[_Running] = set()
        self._stalled = 0
        self._routes = {route.method.path: route for route in routes}
        self._health = health_aio.HealthServicer()
        self._server: http2.Http2Server | None = None
        self.port = 0

    @property
    def serving(self) -> bool:
        """Whether new calls are taken: from `start` until the drain begins."""
        return self._server is not None

    def add(self, route: Route) -> None:
        """Offer one more call; only before `start`."""
        if self._server is not None:
            raise RuntimeError(f"{route.method.name} cannot be added to a server that runs")
        self._routes[route.method.path] = route

    async def start(self) -> None:
        """Listen. Raises InvalidInput when the address cannot be bound."""
        settings = self._settings
        server = http2.Http2Server(
            self._world,
            self._turned_away,
            message_bytes_max=settings.message_bytes_max,
            streams_max=settings.streams_per_connection_max,
        )
        services = sorted({method.service for method in methods.ALL.values()})
        for service in services:
            handlers = {
                method.name: self._handler(method) for method in methods.ALL.values() if method.service == service
            }
            server.add_registered_method_handlers(service, handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
        reflecting = reflection_aio.ReflectionServicer([*services, *names])
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, server)
        self.port = await self._listen(server)
        for service in services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        _log.info("listening", address=self._settings.bind, port=self.port, tls=self._settings.tls is not None)

    async def drain(self, unregister: Callable[[], Awaitable[object]] | None = None) -> None:
        """Shut down politely: `unregister`, watch streams end OK, others may finish for `drain_s`.

        What still runs then is told so and ends. grpc itself cancels only calls
        that have not begun, without a word: our clients take that as an
        invitation to ask another core.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as group:
            # First no new calls, else clients of watch streams would open them here again.
            stopping = group.create_task(server.stop(self._settings.drain_s + limits.FAREWELL_S))
            if unregister is not None:
                await unregister()
            self._end(lambda running: running.call.method.watches)
            await asyncio.wait({stopping}, timeout=self._settings.drain_s)
            self._end(lambda running: True)

    def _end(self, which: Callable[[_Running], bool]) -> None:
        for running in list(self._running):
            if which(running):
                running.drained = True
                running.task.cancel()

    def calls(self) -> list[dict[str, object]]:
        """What runs right now, oldest first, for the debug dump."""
        now = self._world.clock.monotonic()
        rows = sorted(self._running, key=lambda running: running.call.started)
        return [
            {
                "rpc": running.call.method.name,
                "trace": running.call.trace,
                "peer": running.call.peer,
                "seconds": round(now - running.call.started, 3),
            }
            for running in rows
        ]

    async def _listen(self, server: http2.Http2Server) -> int:
        bind, tls = self._settings.bind, self._settings.tls
        address = f"[::]{bind}" if bind.startswith(":") else bind
        try:
            secure = http2.tls_context(tls.cert, tls.key, tls.client_ca) if tls is not None else None
            return await server.start(address, secure, reuse_port=self._settings.reuse_port)
        except ssl.SSLError as error:
            why = f"the certificate, its key or the authority of clients cannot be used ({error.reason or error})"
            raise InvalidInput(f"cannot listen on {bind}: {why}") from error
        except OSError as error:
            why = f"{error.strerror}; choose another bind address or end the process that uses it"
            raise InvalidInput(f"cannot listen on {bind}: {why}") from error
        except ValueError as error:
            raise InvalidInput(f"cannot listen on {bind}: it is not of the form host:port or unix:/path") from error

    def _turned_away(self, path: str, metadata: http2.Metadata) -> str:
        """Why a call without credentials goes no further. Health checks may pass."""
        if self._auth.on and not path.startswith(_HEALTH):
            try:
                self._auth.check(metadata)
            except InvalidInput as error:
                return str(error)
        return ""

    def _handler(self, method: Method[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """grpc's handler for one method. Requests stay bytes here, so that bad ones get a status of ours."""
        route = self._routes.get(method.path)
        serialize = method.response.SerializeToString
        if isinstance(method, UnaryUnary):

            async def answer_one(data: bytes, context: Context) -> Any:
                return await self._serve(method, route, context, lambda call: self._one(method, route, data, call))

            return grpc.unary_unary_rpc_method_handler(answer_one, None, serialize)
        if isinstance(method, UnaryStream):

            async def answer_many(data: bytes, context: Context) -> None:
                await self._serve(
                    method, route, context, lambda call: self._many(route, _decoded(method, data), call, context)
                )

            return grpc.unary_stream_rpc_method_handler(answer_many, None, serialize)

        async def answer_both(chunks: AsyncIterator[bytes], context: Context) -> None:
            await self._serve(
                method, route, context, lambda call: self._many(route, _all_decoded(method, chunks), call, context)
            )

        return grpc.stream_stream_rpc_method_handler(answer_both, None, serialize)

    async def _serve(
        self,
        method: Method[Any, Any],
        route: Route | None,
        context: Context,
        work: Callable[[Call], Awaitable[Any]],
    ) -> Any:
        """Run `work` as one call: counted, traced, with every failure as a status."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is served by a task of the event loop")
        call = self._call(method, context)
        running = _Running(call, task)
        if len(self._running) + self._stalled >= self._settings.calls_max:
            await context.abort(_status(8), f"core is busy with {self._settings.calls_max} calls, which is its limit")
        structlog.contextvars.bind_contextvars(trace=call.trace, rpc=method.name)
        context.set_trailing_metadata(((TRAILER_TRACE, call.trace),))
        self._running.add(running)
        self._observer.call_started(method.name)
        try:
            if route is None:
                raise NotOffered(method.name)
            if not method.safe and method.path not in _REPEATABLE:
                await context.send_initial_metadata(((HEADER_BEGUN, "1"),))
            return await work(call)
        except asyncio.CancelledError:
            if not running.drained:
                running.number = CANCELLED
                raise
            task.uncancel()
            if method.watches:
                return None  # following something is over, which is no error
            running.number = UNAVAILABLE
            text = f"this core went away before {method.name} was finished; what it began is finished or taken back"
            kind = ((TRAILER_KIND, "Interrupted"), (TRAILER_TRACE, call.trace))
            await context.abort(_status(UNAVAILABLE), text, kind)
        except _Stalled as stalled:
            running.number = CANCELLED
            _log.warning("client cut off", error=str(stalled), peer=call.peer)
            self._running.discard(running)  # its work has ended; only the status still waits to be taken
            await self._tell_stalled(method, context, stalled, call)
        except EruError as error:
            failure = failure_of(method, error, call.trace)
            running.number = failure.number
            _log.info("call refused", number=failure.number, error=failure.sentence, peer=call.peer)
            await context.abort(_status(failure.number), failure.sentence, failure.trailers)
        except Exception as error:  # noqa: BLE001 - the edge: whatever happens, the process goes on
            running.number = INTERNAL
            _log.error("call failed unexpectedly", exc_info=error, peer=call.peer)
            await context.abort(
                _status(INTERNAL),
                f"{method.name} failed inside core; its log tells more under trace {call.trace}",
                ((TRAILER_TRACE, call.trace),),
            )
        finally:
            self._running.discard(running)
            self._observer.call_ended(method.name, running.number, self._world.clock.monotonic() - call.started)

    async def _tell_stalled(self, method: Method[Any, Any], context: Context, error: EruError, call: Call) -> None:
        """The status travels behind the message that the client has not taken, if it ever reads on."""
        failure = failure_of(method, error, call.trace)
        self._stalled += 1
        try:
            await context.abort(_status(failure.number), failure.sentence, failure.trailers)
        except grpc.aio.InternalError:
            raise asyncio.CancelledError from None  # the connection ended meanwhile
        finally:
            self._stalled -= 1

    def _call(self, method: Method[Any, Any], context: Context) -> Call:
        metadata = context.invocation_metadata() or ()
        asked = next((str(value) for key, value in metadata if key == TRAILER_TRACE), "")
        left = context.time_remaining()
        return Call(
            method=method,
            trace=asked if _TRACE.fullmatch(asked) else self._world.hex(16),
            peer=context.peer(),
            started=self._world.clock.monotonic(),
            deadline_s=left,
            tty=(METADATA_TTY, "0") not in [(key, value) for key, value in metadata],
        )

    async def _one(self, method: Method[Any, Any], route: Route | None, data: bytes, call: Call) -> Any:
        if route is None:
            return None
        try:
            async with asyncio.timeout(self._settings.call_limit_s):
                return await route.handler(_decoded(method, data), call)
        except TimeoutError as error:
            raise Expired(f"{method.name} did not finish within {self._settings.call_limit_s:g} s") from error

    async def _many(self, route: Route | None, request: Any, call: Call, context: Context) -> None:
        if route is None:
            return
        async with aclosing(route.handler(request, call)) as answers:
            turn = 0
            async for answer in answers:
                framed = isinstance(answer, Batch)
                if context.offer_framed(answer.framed()) if framed else context.offer(answer):
                    if not (turn := (turn + 1) % _ANSWERS_IN_A_ROW):
                        await self._world.clock.sleep(0)
                    continue
                try:
                    async with asyncio.timeout(self._settings.stall_s):
                        await context.flushed()
                except TimeoutError as error:
                    raise _Stalled(f"the client took no message for {self._settings.stall_s:g} s") from error


def _status(number: int) -> Any:
    """What stands where grpc wants an enum member."""
    return Status(number)


def _decoded(method: Method[Any, Any], data: bytes) -> Any:
    try:
        return method.request.FromString(data)
    except DecodeError as error:
        name = method.request.DESCRIPTOR.name
        raise InvalidInput(f"the request of {method.name} is not a readable {name} message") from error


async def _all_decoded(method: Method[Any, Any], chunks: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for data in chunks:
        yield _decoded(method, data)
