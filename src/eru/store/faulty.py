"""A store that fails on purpose, for simulation: one view per client of a shared store.

`faults` is asked before every call and decides what goes wrong, if anything.
The fault that matters most is *effect done, answer lost*.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import Compacted, LeaseLost, OutcomeUnknown, StoreUnavailable
from eru.store.contract import PAGE_ITEMS, Compare, KeyValue, Page, Store, TxnResult, Watch, WatchBatch, Write

R = TypeVar("R")


class FaultKind(enum.Enum):
    """What goes wrong with one call."""

    DELAY = "delay"  # nothing but the delay
    FAIL_BEFORE = "fail before"  # no effect; StoreUnavailable
    ANSWER_LOST = "answer lost"  # effect; OutcomeUnknown for txn, StoreUnavailable for the others
    REQUEST_LOST = "request lost"  # no effect, but the caller cannot know: errors as for ANSWER_LOST
    DONE_LATE = "done late"  # errors as for ANSWER_LOST at once, the effect comes `delay_s` later
    LEASE_LOST = "lease lost"  # the call's lease (or those of its puts) is revoked first
    WATCH_GAP = "watch gap"  # "watch", "watch.next": Compacted, and the watch is over
    CRASH_BEFORE = "crash before"  # raises `crash`; no effect
    CRASH_AFTER = "crash after"  # raises `crash` after the effect


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. The call waits `delay_s` first, whatever the kind (DONE_LATE: the effect does)."""

    kind: FaultKind
    delay_s: float = 0.0
    crash: BaseException | None = None


Faults = Callable[[str], Fault | None]
"""Asked with "get", "get_many", "range", "txn", "grant", "keep_alive", "revoke", "watch", "watch.next",
"watch.progress"."""


class FaultyStore:
    """A `Store` in front of another one. `close` leaves the inner store open: others use it."""

    def __init__(self, store: Store, faults: Faults, world: World) -> None:
        self._store = store
        self._faults = faults
        self._world = world
        self._late = TaskOwner("faulty store")
        self._watches: list[FaultyWatch] = []

    async def get(self, key: str) -> KeyValue | None:
        return await self._call("get", lambda: self._store.get(key))

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        return await self._call("get_many", lambda: self._store.get_many(keys))

    async def range(
        self,
        prefix: str,
        *,
        after: str = "",
        limit: int = PAGE_ITEMS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        return await self._call(
            "range",
            lambda: self._store.range(prefix, after=after, limit=limit, revision=revision, keys_only=keys_only),
        )

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        leases = sorted({lease for write in writes if (lease := getattr(write, "lease", 0))})
        return await self._call("txn", lambda: self._store.txn(compares, writes), leases)

    async def grant(self, ttl_s: int) -> int:
        return await self._call("grant", lambda: self._store.grant(ttl_s))

    async def keep_alive(self, lease: int) -> int:
        return await self._call("keep_alive", lambda: self._store.keep_alive(lease), [lease])

    async def revoke(self, lease: int) -> None:
        await self._call("revoke", lambda: self._store.revoke(lease))

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        inner = await self._call("watch", lambda: self._store.watch(prefix, from_revision))
        watch = FaultyWatch(inner, self._faults, self._world)
        self._watches = [other for other in self._watches if not other.closed]
        self._watches.append(watch)
        return watch

    async def close(self) -> None:
        """Ends this view's watches; effects that are still to come late, come."""
        for watch in self._watches:
            await watch.close()
        self._watches.clear()

    async def _call(self, name: str, effect: Callable[[], Awaitable[R]], leases: Sequence[int] = ()) -> R:
        fault = self._faults(name)
        if fault is None:
            return await effect()
        if fault.kind is FaultKind.DONE_LATE:
            self._late.start(name, _late(self._world, fault.delay_s, effect))
            raise _lost(name)
        await self._world.clock.sleep(fault.delay_s)
        if fault.kind is FaultKind.FAIL_BEFORE:
            raise StoreUnavailable(f"store {name}: no answer (injected)")
        if fault.kind is FaultKind.REQUEST_LOST:
            raise _lost(name)
        if fault.kind is FaultKind.CRASH_BEFORE:
            raise _crash(fault)
        if fault.kind is FaultKind.LEASE_LOST:
            for lease in leases:
                await self._store.revoke(lease)
        if fault.kind is FaultKind.WATCH_GAP and name == "watch":
            raise Compacted(0)
        result = await effect()
        if fault.kind is FaultKind.ANSWER_LOST:
            raise _lost(name)
        if fault.kind is FaultKind.CRASH_AFTER:
            raise _crash(fault)
        return result


class FaultyWatch:
    """A watch whose batches may come late, or not at all."""

    def __init__(self, watch: Watch, faults: Faults, world: World) -> None:
        self._watch = watch
        self._batches: AsyncIterator[WatchBatch] = watch.__aiter__()
        self._faults = faults
        self._world = world
        self.closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        batch = await anext(self._batches)
        fault = self._faults("watch.next")
        if fault is None:
            return batch
        await self._world.clock.sleep(fault.delay_s)
        if fault.kind is FaultKind.WATCH_GAP:
            await self.close()
            raise Compacted(batch.revision)
        if fault.kind in (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER):
            raise _crash(fault)
        if fault.kind is not FaultKind.DELAY:
            await self.close()
            raise StoreUnavailable("store watch: connection lost (injected)")
        return batch

    async def request_progress(self) -> None:
        fault = self._faults("watch.progress")
        if fault is not None:
            await self._world.clock.sleep(fault.delay_s)
            if fault.kind in (FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER):
                raise _crash(fault)
            if fault.kind is not FaultKind.DELAY:
                raise StoreUnavailable("store watch progress: no answer (injected)")
        await self._watch.request_progress()

    async def close(self) -> None:
        self.closed = True
        await self._watch.close()


def _lost(name: str) -> StoreUnavailable | OutcomeUnknown:
    if name == "txn":
        return OutcomeUnknown("store txn: the answer got lost (injected)")
    return StoreUnavailable(f"store {name}: the answer got lost (injected)")


def _crash(fault: Fault) -> BaseException:
    return fault.crash or KeyboardInterrupt("injected crash")


async def _late(world: World, delay_s: float, effect: Callable[[], Awaitable[object]]) -> None:
    await world.clock.sleep(delay_s)
    try:
        await effect()
    except LeaseLost:
        return  # by then the lease was over; nobody waits for the answer
