"""One channel per member, and calls that go to a member that answers.

Sticky: all calls go to the current member until it fails, then to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import OutcomeUnknown, StoreUnavailable
from eru.store.etcd import rpc_pb2 as pb
from eru.store.etcd.failures import Failure, brief, explain, judge
from eru.store.etcd.login import Login
from eru.store.etcd.settings import EtcdSettings

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

ROUND_WAIT_S = 0.05  # first pause after all members failed
ROUND_WAIT_MOST_S = 0.5
TRY_PART = 0.4  # of the request timeout, for one try of a call that may be repeated
LOGIN_TRIES = 2
NO_CONNECTION = "no connection"
WHY_S = 0.2


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """A remote procedure: its path and the types that go in and come out."""

    path: str
    request: type[Q]
    answer: type[A]


RANGE = Method("/etcdserverpb.KV/Range", pb.RangeRequest, pb.RangeResponse)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnRequest, pb.TxnResponse)
COMPACT = Method("/etcdserverpb.KV/Compact", pb.CompactionRequest, pb.CompactionResponse)
LEASE_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest, pb.LeaseGrantResponse)
LEASE_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse)
LEASE_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse)
WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchRequest, pb.WatchResponse)
AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse)


@dataclass(slots=True)
class Member:
    """A channel to one endpoint and its prepared calls."""

    name: str
    channel: grpc.aio.Channel
    unary: dict[str, Any] = field(default_factory=dict)

    def call(self, method: Method[Q, A]) -> Any:
        """The prepared unary call."""
        prepared = self.unary.get(method.path)
        if prepared is None:
            prepared = self.unary[method.path] = self.channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.answer.FromString,
            )
        return prepared

    async def why(self) -> str:
        """Why there is no connection: gRPC tells it only to those who try to use it."""
        try:
            await self.call(RANGE)(pb.RangeRequest(key=b"\0", limit=1, keys_only=True), timeout=WHY_S)
        except AioRpcError as error:
            if judge(error) is Failure.NOT_DONE:
                return brief(error)
        return NO_CONNECTION

    async def connected(self, timeout_s: float) -> bool:
        """Wait for a connection; False when there is none in time or the last try failed."""
        state = self.channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                        return False
                    await self.channel.wait_for_state_change(state)
                    state = self.channel.get_state(try_to_connect=True)
                return True
        return False


class Endpoints:
    """All members of the cluster, as configured."""

    def __init__(self, settings: EtcdSettings, world: World) -> None:
        """Raises InvalidInput for settings that cannot be used."""
        self.settings = settings
        self.world = world
        targets = settings.targets()
        credentials = settings.credentials()
        self.names = ", ".join(targets)
        self._login = Login(self._authenticate)
        self._current = 0
        self._closed = False
        self._members = [Member(target, _channel(target, credentials, settings)) for target in targets]

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        self._closed = True
        for member in self._members:
            await member.channel.close()

    async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool = True) -> A:
        """Answer of the first member that gives one, within the request timeout.

        A call that is not `repeatable` is sent once: raises OutcomeUnknown
        when its answer got lost. Raises StoreUnavailable when no member
        answered, AioRpcError when one refused.
        """
        deadline = self.world.clock.monotonic() + self.settings.request_timeout_s
        trouble: dict[str, str] = {}
        rounds = Backoff(self.world, ROUND_WAIT_S, ROUND_WAIT_MOST_S)
        logins = 0
        while (left_s := deadline - self.world.clock.monotonic()) > 0:
            self.check_open()
            member = self._members[self._current]
            if not await member.connected(min(left_s, self.settings.connect_timeout_s)):
                await self._failed(member, trouble, rounds)
                continue
            left_s = max(deadline - self.world.clock.monotonic(), 0.001)
            timeout_s = min(left_s, self.settings.request_timeout_s * TRY_PART) if repeatable else left_s
            token = await self._token()
            try:
                answer: A = await member.call(method)(request, timeout=timeout_s, metadata=metadata(token))
            except asyncio.CancelledError:
                self.explain_if_closed(repeatable)
                raise
            except AioRpcError as error:
                failure = judge(error)
                if failure is Failure.FINAL:
                    raise
                if failure is Failure.UNKNOWN and not repeatable:
                    self.leave(member)
                    raise OutcomeUnknown(
                        f"etcd at {member.name}: {brief(error)}; not known whether the transaction was done"
                    ) from error
                if failure is Failure.LOGIN and logins < LOGIN_TRIES:
                    logins += 1
                    await self._login.renew(token)
                    continue
                trouble[member.name] = brief(error)
                await self._failed(member, trouble, rounds)
            else:
                return answer
        raise await self.unavailable(trouble)

    def check_open(self) -> None:
        """Raises StoreUnavailable after `close`."""
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def explain_if_closed(self, repeatable: bool) -> None:
        """For a CancelledError: raises a StoreError if gRPC made it because the store was closed under a call."""
        task = asyncio.current_task()
        if self._closed and (task is None or not task.cancelling()):
            if not repeatable:
                raise OutcomeUnknown("the store was closed; not known whether the transaction was done")
            raise StoreUnavailable("the store is closed")

    async def unavailable(self, trouble: dict[str, str]) -> StoreUnavailable:
        """What to raise when no member helped; says why for each that was tried."""
        silent = [member for member in self._members if trouble.get(member.name) == NO_CONNECTION]
        if not self._closed:
            reasons_found = await asyncio.gather(*(member.why() for member in silent))
            trouble |= {member.name: why for member, why in zip(silent, reasons_found, strict=True)}
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(trouble.items()))
        return StoreUnavailable(
            f"no etcd member answered in {self.settings.request_timeout_s:g} s (endpoints {self.names}"
            + (f"; {reasons})" if reasons else ")")
        )

    async def member(self) -> tuple[Member, Sequence[tuple[str, str]]]:
        """The current member if it is connected, and the metadata for a stream. Raises StoreUnavailable."""
        self.check_open()
        member = self._members[self._current]
        if not await member.connected(self.settings.connect_timeout_s):
            self.leave(member)
            raise StoreUnavailable(f"etcd at {member.name}: no connection")
        return member, metadata(await self._token())

    async def renew_login(self, refused: Sequence[tuple[str, str]]) -> None:
        """The token in this metadata was refused."""
        await self._login.renew(dict(refused).get("token", ""))

    def leave(self, member: Member) -> None:
        """Use another member from now on."""
        if self._members[self._current] is member:
            self._current = (self._current + 1) % len(self._members)

    async def _failed(self, member: Member, trouble: dict[str, str], rounds: Backoff) -> None:
        trouble.setdefault(member.name, NO_CONNECTION)
        self.leave(member)
        if len(trouble) == len(set(self._members_names())):
            await rounds.wait()

    def _members_names(self) -> list[str]:
        return [member.name for member in self._members]

    async def _token(self) -> str:
        return await self._login.token() if self.settings.username else ""

    async def _authenticate(self) -> str:
        """Ask the members in turn for a token. Raises StoreError or StoreUnavailable."""
        request = pb.AuthenticateRequest(name=self.settings.username, password=self.settings.password)
        trouble: dict[str, str] = {}
        for _ in self._members:
            member = self._members[self._current]
            timeout_s = self.settings.connect_timeout_s
            try:
                if await member.connected(timeout_s):
                    answer = await member.call(AUTHENTICATE)(request, timeout=timeout_s)
                    return str(answer.token)
            except AioRpcError as error:
                if "authentication is not enabled" in (error.details() or ""):
                    return ""
                if judge(error) is Failure.FINAL:
                    raise explain(error, self.names) from error
                trouble[member.name] = brief(error)
            trouble.setdefault(member.name, NO_CONNECTION)
            self.leave(member)
        raise await self.unavailable(trouble)


def metadata(token: str) -> Sequence[tuple[str, str]]:
    """A member without a leader refuses at once instead of hanging; and who we are."""
    return (("hasleader", "true"), ("token", token)) if token else (("hasleader", "true"),)


def _channel(target: str, credentials: grpc.ChannelCredentials | None, settings: EtcdSettings) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(target, settings.options())
    return grpc.aio.secure_channel(target, credentials, settings.options())
