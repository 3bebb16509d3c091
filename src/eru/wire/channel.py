"""How our own clients reach core: several addresses, discovery, failover, safe retries.

    async with connect(["10.0.0.1:5001", "10.0.0.2:5001"], world=world) as core:
        node = await core.unary(rpc.GetNode, pb.GetNodeOptions(nodename="n1"))
        async for workload in core.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions()):
            ...

Calls go round the cores that answer. A core that cannot be reached is passed
over, which is harmless for every call because nothing was sent yet. Once sent,
only calls that change nothing are tried again. `eru://host:port` (also several,
with commas) asks there which cores exist and follows the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner, task_owner
from eru.lib.world import World
from eru.model.errors import CoreUnreachable, InvalidInput, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import limits, methods
from eru.wire.client_tls import ClientTLS
from eru.wire.diagnosis import why_unreachable
from eru.wire.failures import METADATA_TTY, NotBegun, remote_error
from eru.wire.methods import Method, StreamStream, UnaryStream, UnaryUnary

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)

ROUNDS = 3  # times a safe call is offered to every known core
RETRY_PAUSE_S = 0.05  # before a safe call is offered again
CORES_EXPLAINED_MAX = 8  # cores looked at when none can be reached
STATUS_LOOKS = 50  # times we look for the status of a call that ended while we were sending
STATUS_WAIT_S = 0.01  # between two looks
_WRITE_FAILED = "Internal error from Core"  # grpc.aio's words for it
DISCOVERY_SCHEME = "eru://"
STATIC_SCHEME = "static://"
_PLAIN = re.compile(r"unix:.+|\[[0-9a-fA-F:.]+\]:\d+|[A-Za-z0-9_.\-]+:\d+")
_METADATA_KEY = re.compile(r"[0-9a-z_.\-]+")

_log = structlog.get_logger(__name__)


def parse_addresses(addresses: Sequence[str]) -> tuple[list[str], bool]:
    """(plain addresses, whether to discover more) of what a user wrote.

    Accepts `host:port`, `[ipv6]:port`, `unix:/path`, comma lists of them, and
    both with the schemes `eru://` (discover) and `static://`. Raises InvalidInput.
    """
    plain: list[str] = []
    discover = False
    for text in addresses:
        rest = text.strip()
        if rest.startswith(DISCOVERY_SCHEME):
            discover, rest = True, rest.removeprefix(DISCOVERY_SCHEME)
        elif rest.startswith(STATIC_SCHEME):
            rest = rest.removeprefix(STATIC_SCHEME).removeprefix("_/")
        for part in (piece.strip().strip("/") if "unix:" not in piece else piece.strip() for piece in rest.split(",")):
            if not _PLAIN.fullmatch(part):
                raise InvalidInput(f"core address {text!r} is not of the form host:port, eru://host:port or unix:/path")
            if part not in plain:
                plain.append(part)
    if not plain:
        raise InvalidInput("no core address is given: use host:port, for example 127.0.0.1:5001")
    return plain, discover


def auth_metadata(username: str, password: str) -> tuple[tuple[str, str], ...]:
    """The published basic-auth form: one entry whose key is the user's name and value the password."""
    if not username:
        return ()
    key = username.lower()
    if not _METADATA_KEY.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
        raise InvalidInput(f"user name {username!r} cannot be sent: use letters, digits, '.', '_' and '-'")
    if not password.isascii() or not password.isprintable():
        raise InvalidInput("the password cannot be sent: use printable ASCII characters")
    return ((key, password),)


class _Link:
    """One core's connection."""

    def __init__(self, address: str, tls: ClientTLS | None) -> None:
        self.address = address
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", limits.ANSWER_BYTES_MAX),
            ("grpc.max_send_message_length", limits.ANSWER_BYTES_MAX),
            ("grpc.keepalive_time_ms", int(limits.KEEPALIVE_S * 1000)),
            ("grpc.keepalive_timeout_ms", int(limits.KEEPALIVE_TIMEOUT_S * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if tls is None:
            self.channel = grpc.aio.insecure_channel(address, options=options)
        else:
            if tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(tls.ca or None, tls.key or None, tls.cert or None)
            self.channel = grpc.aio.secure_channel(address, credentials, options=options)
        self._calls: dict[str, Any] = {}

    async def ready(self, timeout_s: float) -> bool:
        """Whether the core can be talked to, after one attempt to connect if need be."""
        state = self.channel.get_state(try_to_connect=True)
        # Out of IDLE the attempt begins now, and may have failed before anybody saw it CONNECTING.
        attempted = state is grpc.ChannelConnectivity.IDLE
        try:
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.SHUTDOWN:
                        return False
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and attempted:
                        return False
                    attempted = attempted or state is grpc.ChannelConnectivity.CONNECTING
                    await self.channel.wait_for_state_change(state)
                    state = self.channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    def call(self, method: Method[Any, Any]) -> Any:
        """grpc's callable for a method, made once."""
        made = self._calls.get(method.path)
        if made is None:
            kinds = {UnaryUnary: "unary_unary", UnaryStream: "unary_stream", StreamStream: "stream_stream"}
            made = self._calls[method.path] = getattr(self.channel, kinds[type(method)])(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return made


class _Endings:
    """Remembers the first status of a call that is not about our own failed write."""

    def __init__(self) -> None:
        self.true: grpc.aio.AioRpcError | None = None

    def note(self, call: Any) -> None:
        """Called by grpc.aio whenever it sets a status; the answers are there without waiting."""
        details = _at_once(call.details())
        if self.true is None and details != _WRITE_FAILED:
            code, trailers = _at_once(call.code()), _at_once(call.trailing_metadata())
            self.true = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers or grpc.aio.Metadata(), details)


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for, or None."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    finally:
        answer.close()
    return None


class CoreClient:
    """Calls to a group of equal cores. Use as `async with`; see `connect`."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        world: World,
        username: str = "",
        password: str = "",
        tls: ClientTLS | None = None,
        connect_timeout_s: float = limits.CONNECT_TIMEOUT_S,
        call_timeout_s: float = limits.CALL_TIMEOUT_S,
    ) -> None:
        self._seeds, self._discover = parse_addresses(addresses)
        self._metadata = auth_metadata(username, password)
        self._world = world
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = call_timeout_s
        self._links: dict[str, _Link] = {}
        self._turn = 0
        self._owner = TaskOwner("core-client")

    async def __aenter__(self) -> Self:
        self._use(self._seeds)
        if self._discover:
            self._owner.start("discovery", self._follow_cores())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and connections."""
        await self._owner.close()
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.channel.close()

    @property
    def addresses(self) -> list[str]:
        """The cores in use now."""
        return list(self._links)

    async def unary(self, method: UnaryUnary[Req, Resp], request: Req, *, timeout_s: float | None = None) -> Resp:
        """One answer. Raises RemoteError, or CoreUnreachable when no core could be reached.

        `timeout_s` None: the client's default.
        """
        limit = self._call_timeout_s if timeout_s is None else timeout_s
        tried = 0
        while True:
            link = await self._pick(method)
            tried += 1
            try:
                answer: Resp = await link.call(method)(request, timeout=limit, metadata=self._metadata)
                return answer
            except grpc.aio.AioRpcError as failed:
                error = remote_error(method, link.address, failed)
                if not self._may_retry(method, error, tried):
                    raise error from None
            await self._world.clock.sleep(self._world.jitter(RETRY_PAUSE_S))

    async def stream(
        self, method: UnaryStream[Req, Resp], request: Req, *, timeout_s: float | None = None
    ) -> AsyncGenerator[Resp, None]:
        """Answers as they come, without a time limit by default. Closing the iterator cancels the call.

        A safe call is tried elsewhere as long as nothing was received; after
        that a broken stream raises, because only the caller knows what it missed.
        """
        tried = 0
        while True:
            link = await self._pick(method)
            tried += 1
            call = link.call(method)(request, timeout=timeout_s, metadata=self._metadata)
            received = False
            try:
                async for message in call:
                    received = True
                    yield message
                return
            except grpc.aio.AioRpcError as failed:
                error = remote_error(method, link.address, failed)
                if received or not self._may_retry(method, error, tried):
                    raise error from None
            finally:
                call.cancel()
            await self._world.clock.sleep(self._world.jitter(RETRY_PAUSE_S))

    async def both(
        self,
        method: StreamStream[Req, Resp],
        requests: AsyncIterable[Req],
        *,
        timeout_s: float | None = None,
        tty: bool = True,
    ) -> AsyncGenerator[Resp, None]:
        """Sends `requests` while it yields the answers; the end of `requests` closes the sending side.

        `tty` false: interactive commands get plain pipes, where core knows about that.
        """
        link = await self._pick(method)
        metadata = self._metadata if tty else (*(self._metadata or ()), (METADATA_TTY, "0"))
        call = link.call(method)(requests, timeout=timeout_s, metadata=metadata)
        endings = _Endings()
        call.add_done_callback(endings.note)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as failed:
            true = await self._true_error(failed, endings)
            if true.code() is not grpc.StatusCode.OK:  # else it has ended well, and needed no more of what we say
                raise remote_error(method, link.address, true) from None
        finally:
            call.cancel()

    async def _true_error(self, failed: grpc.aio.AioRpcError, endings: _Endings) -> grpc.aio.AioRpcError:
        """The server's own status when it ended the call while we were sending.

        grpc.aio then reports its failed write instead, before or after the status arrived.
        """
        if failed.details() != _WRITE_FAILED:
            return failed
        for _ in range(STATUS_LOOKS):
            if endings.true is not None:
                return endings.true
            await self._world.clock.sleep(STATUS_WAIT_S)
        return failed

    def _may_retry(self, method: Method[Any, Any], error: RemoteError, tried: int) -> bool:
        harmless = method.safe or isinstance(error, NotBegun)
        return harmless and isinstance(error, CoreUnreachable) and tried < ROUNDS * max(len(self._links), 1)

    async def _pick(self, method: Method[Any, Any]) -> _Link:
        """The next core in turn that can be reached. Raises CoreUnreachable naming all that were tried."""
        links = list(self._links.values())
        if not links:
            raise CoreUnreachable("the connection to core is closed", rpc=method.name, code=14)
        self._turn += 1
        order = [links[(self._turn + step) % len(links)] for step in range(len(links))]
        for link in order:
            if link.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return link
        if (first := await self._first_ready(order)) is not None:
            return first
        raise CoreUnreachable(await self._why(order), rpc=method.name, code=14)

    async def _first_ready(self, links: Sequence[_Link]) -> _Link | None:
        """Whichever can be talked to first: one that is just restarting holds nobody up who could go elsewhere."""
        async with task_owner("connect") as owner:
            attempts = {owner.start(link.address, link.ready(self._connect_timeout_s)): link for link in links}
            left = set(attempts)
            while left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for attempt, link in attempts.items():
                    if attempt in done and attempt.result():
                        return link
        return None

    async def _why(self, order: Sequence[_Link]) -> str:
        """A sentence about cores none of which can be reached."""
        looks = await asyncio.gather(
            *(why_unreachable(link.address, self._tls) for link in order[:CORES_EXPLAINED_MAX])
        )
        for link, found in zip(order, looks, strict=False):
            if found:
                return f"core at {link.address} cannot be talked to: {found}"
        tried = ", ".join(link.address for link in order)
        return f"core does not answer at {tried}: check the address and that core runs"

    def _use(self, addresses: Sequence[str]) -> None:
        """Talk to exactly these cores from now on; calls under way on others go on."""
        for address in addresses:
            if address not in self._links:
                self._links[address] = _Link(address, self._tls)
        for address in [known for known in self._links if known not in addresses]:
            link = self._links.pop(address)
            self._owner.start(f"close {address}", link.channel.close(grace=self._call_timeout_s))

    async def _follow_cores(self) -> None:
        """Keep the set of cores as the cores themselves announce it; the seeds stay known as a way back."""
        backoff = Backoff(self._world, first_s=0.2, most_s=5.0)
        while True:
            try:
                async with aclosing(self.stream(methods.WatchServiceStatus, pb.Empty())) as announced:
                    async for status in announced:
                        backoff.reset()
                        if status.addresses:
                            self._use(parse_addresses(list(status.addresses))[0])
            except (RemoteError, InvalidInput) as error:
                _log.warning("cannot follow the list of cores", error=str(error))
                self._use([*self._links, *(seed for seed in self._seeds if seed not in self._links)])
            await backoff.wait()


def connect(
    addresses: Sequence[str] | str,
    *,
    world: World,
    username: str = "",
    password: str = "",
    tls: ClientTLS | None = None,
    connect_timeout_s: float = limits.CONNECT_TIMEOUT_S,
    call_timeout_s: float = limits.CALL_TIMEOUT_S,
) -> CoreClient:
    """A client for the cores at `addresses`; nothing is sent before the first call.

    Raises InvalidInput for an address or user name that cannot work.
    """
    return CoreClient(
        [addresses] if isinstance(addresses, str) else addresses,
        world=world,
        username=username,
        password=password,
        tls=tls,
        connect_timeout_s=connect_timeout_s,
        call_timeout_s=call_timeout_s,
    )
