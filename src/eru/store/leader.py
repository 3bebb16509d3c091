"""Who does a job that one core is enough for.

Leadership saves work; it never makes anything safe. Two cores may both
believe to lead for a while (a paused process, an expired lease), and every
transaction still has to carry its own compares.
"""

from __future__ import annotations

from eru.lib.retry import Backoff
from eru.lib.world import World
from eru.model.errors import Compacted, LeaseLost, OutcomeUnknown, StoreUnavailable
from eru.store.contract import Compare, Delete, KeyValue, Op, Put, Store, Target, absent
from eru.store.keys import Keys


class Leadership:
    """One core's claim to a role, under the lease of its registration.

    The caller keeps the lease alive; when it ends, the role is free.
    """

    def __init__(self, store: Store, keys: Keys, role: str, core: str, lease: int, world: World) -> None:
        self._store = store
        self._key = keys.leader(role)
        self._core = core
        self._lease = lease
        self._world = world
        self._held = False

    @property
    def held(self) -> bool:
        """What this core believes; `wait_lost` keeps it true to the store."""
        return self._held

    async def try_take(self) -> bool:
        """Take the role if it is free. Raises StoreUnavailable, LeaseLost."""
        self._held = False
        try:
            put = Put(self._key, self._core.encode(), self._lease)
            taken = (await self._store.txn([absent(self._key)], [put])).succeeded
        except OutcomeUnknown:
            taken = False
        self._held = taken or self._is_mine(await self._store.get(self._key))
        return self._held

    async def take(self) -> None:
        """Wait until the role is free, and take it. Raises LeaseLost when there is nothing to take it with."""
        backoff = Backoff(self._world)
        while True:
            try:
                if await self.try_take():
                    return
                await self._wait_while(mine=False)
                backoff.reset()
            except (StoreUnavailable, Compacted):
                await backoff.wait()

    async def wait_lost(self) -> None:
        """Return as soon as the role is known not to be this core's any more."""
        backoff = Backoff(self._world)
        while self._held:
            try:
                await self._wait_while(mine=True)
                self._held = False
            except (StoreUnavailable, Compacted):
                await backoff.wait()

    async def resign(self) -> None:
        """Free the role, if it is this core's. Raises StoreUnavailable."""
        self._held = False
        mine = [
            Compare(self._key, Target.VALUE, Op.EQUAL, self._core.encode()),
            Compare(self._key, Target.LEASE, Op.EQUAL, self._lease),
        ]
        try:
            await self._store.txn(mine, [Delete(self._key)])
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error
        except LeaseLost:
            return

    def _is_mine(self, item: KeyValue | None) -> bool:
        return item is not None and item.lease == self._lease and item.value == self._core.encode()

    async def _wait_while(self, mine: bool) -> None:
        """Until the role's key is gone (`mine` False), or is not this core's (`mine` True)."""
        page = await self._store.range(self._key)
        item = next((item for item in page.items if item.key == self._key), None)
        if item is None or (mine and not self._is_mine(item)):
            return
        watch = await self._store.watch(self._key, page.revision + 1)
        try:
            async for batch in watch:
                if any(event.item.key == self._key for event in batch.events):
                    return
        finally:
            await watch.close()
