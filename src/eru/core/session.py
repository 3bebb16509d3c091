"""This core's registration: alive while its lease is, and without it able to change nothing.

Every transaction of an operation compares that the registration the operation
began under still exists. A core that was cut off long enough to be swept by
others therefore cannot write any more, whatever it still believes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from eru.core.settings import CoreSettings
from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.cores import Registration
from eru.model.errors import LeaseLost, OutcomeUnknown, StoreError, StoreUnavailable
from eru.store.contract import Compare, Put, Store, absent, present
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

ID_LENGTH = 16


@dataclass(slots=True)
class Identity:
    """One life of a core: from the grant of its lease to the lease's end."""

    id: str
    lease: int
    guard: Compare
    world: World
    good_until: float  # monotonic seconds; the lease surely lives until then
    ended: bool = False

    def margin_s(self) -> float:
        """For how long the lease surely lives on, in seconds; 0 when it may be gone."""
        return 0.0 if self.ended else max(self.good_until - self.world.clock.monotonic(), 0.0)

    def check(self) -> None:
        """Raise LeaseLost when others may already be cleaning up after this core."""
        if self.margin_s() <= 0:
            raise LeaseLost(f"core {self.id} lost its registration in the store; the operation was given up, try again")


@dataclass(slots=True)
class Session:
    """Keeps this process registered; after a loss it comes back under a new identity."""

    world: World
    store: Store
    keys: Keys
    settings: CoreSettings
    _identity: Identity | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Register; raises StoreError when that fails."""
        await self._register()

    @property
    def registered(self) -> bool:
        """Whether operations can be begun right now."""
        return self._identity is not None and self._identity.margin_s() > 0

    async def identity(self) -> Identity:
        """The current registration; waits for one a little while, then raises StoreUnavailable."""
        if self.registered and self._identity is not None:
            return self._identity
        try:
            async with asyncio.timeout(self.settings.session_ttl_s):
                while not self.registered or self._identity is None:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise StoreUnavailable("this core is not registered in the store: is the store reachable?") from None
        return self._identity

    def current(self) -> Identity | None:
        """The registration as it is, good or not."""
        return self._identity

    async def keep(self) -> None:
        """Renew for ever; register anew after a loss. Runs as a background task."""
        backoff = Backoff(self.world, first_s=0.2, most_s=2.0)
        every_s = self.settings.session_ttl_s / 3
        while True:
            try:
                if self._identity is None:
                    await self._register()
                    _log.warning("registered anew after a loss", core=self.id)
                else:
                    await self._renew(self._identity)
                backoff.reset()
            except LeaseLost:
                self._lost()
                continue
            except StoreError as error:
                _log.warning("registration cannot be renewed", error=str(error))
                await backoff.wait()
                continue
            await self.world.clock.sleep(self.world.jitter(every_s))

    @property
    def id(self) -> str:
        """The current core id, or "" between two lives."""
        return self._identity.id if self._identity else ""

    async def stop(self) -> None:
        """Unregister, so that others need not wait for the lease to end."""
        identity, self._identity = self._identity, None
        if identity is not None:
            identity.ended = True
            await self.store.revoke(identity.lease)

    async def _register(self) -> None:
        begun = self.world.clock.monotonic()
        lease = await self.store.grant(self.settings.session_ttl_s)
        core = self.world.hex(ID_LENGTH)
        key = self.keys.core(core)
        value = Registration(
            id=core,
            address=self.settings.address,
            version=self.settings.version,
            started_at=self.world.clock.now(),
        ).encode()
        try:
            result = await self.store.txn([absent(key)], [Put(key, value, lease)])
            if not result.succeeded:
                raise StoreUnavailable(f"core id {core} is taken")
        except OutcomeUnknown:
            if await self.store.get(key) is None:
                # A late arrival only leaves a registration that nobody uses and that ends with its lease.
                raise StoreUnavailable("the registration was not answered") from None
        self._identity = Identity(core, lease, present(key), self.world, begun + self.settings.session_ttl_s)
        self._arrived.set()

    async def _renew(self, identity: Identity) -> None:
        begun = self.world.clock.monotonic()
        ttl_s = await self.store.keep_alive(identity.lease)
        identity.good_until = begun + ttl_s
        self._arrived.set()

    def _lost(self) -> None:
        if self._identity is not None:
            self._identity.ended = True
            _log.warning("registration lost", core=self._identity.id)
        self._identity = None
