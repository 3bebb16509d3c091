"""All members of the cluster, and calls that go to one that answers.

Sticky: all calls go to the current member until it fails, then to the next.
"""

from __future__ import annotations

from eru.lib.http2.client import Metadata
from eru.lib.http2.failures import RpcFailed
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import OutcomeUnknown, StoreUnavailable
from eru.store.etcd import rpc_pb2 as pb
from eru.store.etcd.failures import Failure, brief, explain, judge
from eru.store.etcd.login import Login
from eru.store.etcd.member import Member
from eru.store.etcd.methods import AUTHENTICATE, A, Method, Q
from eru.store.etcd.settings import EtcdSettings

ROUND_WAIT_S = 0.05  # first pause after all members failed
ROUND_WAIT_MOST_S = 0.5
TRY_PART = 0.4  # of the request timeout, for one try of a call that may be repeated
LOGIN_TRIES = 2


class Endpoints:
    """All members of the cluster, as configured."""

    def __init__(self, settings: EtcdSettings, world: World) -> None:
        """Raises InvalidInput for settings that cannot be used."""
        self.settings = settings
        self.world = world
        targets = dict.fromkeys(settings.targets())
        tls = settings.tls()
        self.names = ", ".join(targets)
        self._login = Login(self._authenticate)
        self._current = 0
        self._closed = False
        self._members = [Member(target, settings, tls, world) for target in targets]

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        self._closed = True
        for member in self._members:
            await member.close()

    async def call(self, method: Method[Q, A], request: Q, *, repeatable: bool = True) -> A:
        """Answer of the first member that gives one, within the request timeout.

        A call that is not `repeatable` is sent once: raises OutcomeUnknown
        when its answer got lost. Raises StoreUnavailable when no member
        answered, RpcFailed when one refused.
        """
        deadline = self.world.clock.monotonic() + self.settings.request_timeout_s
        trouble: dict[str, str] = {}
        rounds = Backoff(self.world, ROUND_WAIT_S, ROUND_WAIT_MOST_S)
        logins = 0
        while (left_s := deadline - self.world.clock.monotonic()) > 0:
            self.check_open()
            member = self._members[self._current]
            try:
                if not member.connected:
                    await member.connect(min(left_s, self.settings.connect_timeout_s))
                    left_s = max(deadline - self.world.clock.monotonic(), 0.001)
                token = await self._token()
                timeout_s = min(left_s, self.settings.request_timeout_s * TRY_PART) if repeatable else left_s
                return await member.unary(method, request, timeout_s, metadata(token))
            except RpcFailed as error:
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
                self.leave(member)
                if len(trouble) == len(self._members):
                    await rounds.wait()
        raise self.unavailable(trouble)

    def check_open(self) -> None:
        """Raises StoreUnavailable after `close`."""
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def unavailable(self, trouble: dict[str, str]) -> StoreUnavailable:
        """What to raise when no member helped; says why for each that was tried."""
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(trouble.items()))
        return StoreUnavailable(
            f"no etcd member answered in {self.settings.request_timeout_s:g} s (endpoints {self.names}"
            + (f"; {reasons})" if reasons else ")")
        )

    async def member(self) -> tuple[Member, Metadata]:
        """The current member, connected, and the metadata for a stream. Raises StoreUnavailable."""
        self.check_open()
        member = self._members[self._current]
        try:
            await member.connect(self.settings.connect_timeout_s)
        except RpcFailed as error:
            self.leave(member)
            raise StoreUnavailable(f"etcd at {member.name}: {brief(error)}") from error
        return member, metadata(await self._token())

    async def renew_login(self, refused: Metadata) -> None:
        """The token in this metadata was refused."""
        await self._login.renew(dict(refused).get("token", ""))

    def leave(self, member: Member) -> None:
        """Use another member from now on."""
        if self._members[self._current] is member:
            self._current = (self._current + 1) % len(self._members)

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
                await member.connect(timeout_s)
                return (await member.unary(AUTHENTICATE, request, timeout_s, ())).token
            except RpcFailed as error:
                if "authentication is not enabled" in error.details:
                    return ""
                if judge(error) is Failure.FINAL:
                    raise explain(error, self.names) from error
                trouble[member.name] = brief(error)
                self.leave(member)
        raise self.unavailable(trouble)


def metadata(token: str) -> Metadata:
    """A member without a leader refuses at once instead of hanging; and who we are."""
    return (("hasleader", "true"), ("token", token)) if token else _ANYBODY


_ANYBODY = (("hasleader", "true"),)
