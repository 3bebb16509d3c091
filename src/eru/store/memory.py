"""The store in memory: exact semantics, no I/O, no real time. For tests and simulation.

No call ever waits, so it takes effect in one step of the event loop; wrap it
in `faulty.FaultyStore` for delays and failures. Many cores may share one.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Sequence

from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import Compacted, StoreUnavailable
from eru.store import rules
from eru.store.contract import (
    PAGE_ITEMS,
    Change,
    Compare,
    Delete,
    Event,
    KeyValue,
    Page,
    Put,
    TxnResult,
    Watch,
    Write,
)
from eru.store.feed import Feed, LocalWatch, Revision, nothing_older
from eru.store.leases import LeaseTable
from eru.store.order import KeyOrder

HISTORY_REVISIONS = 100_000  # kept at least, for watches and reads of the past
HISTORY_BYTES = 1_000_000_000  # of values in that history


class MemoryStore:
    """A `Store` in this process. Revisions start at 1, as in etcd."""

    def __init__(self, world: World, history_revisions: int = HISTORY_REVISIONS) -> None:
        self._world = world
        self._items: dict[str, KeyValue] = {}
        self._order = KeyOrder()
        self._feed = Feed(0, history_revisions, HISTORY_BYTES)
        self._feed.append(Revision(1, ()))
        self._compacted = 0
        self._leases = LeaseTable()
        self._tasks = TaskOwner("memory store")
        self._reaper: asyncio.Task[None] | None = None
        self._reaper_at = 0.0
        self._closed = False

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self._feed.revision

    async def get(self, key: str) -> KeyValue | None:
        rules.check_key(key)
        self._settle()
        return self._items.get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        for key in keys:
            rules.check_key(key)
        self._settle()
        return {key: self._items[key] for key in keys if key in self._items}

    async def range(
        self,
        prefix: str,
        *,
        after: str = "",
        limit: int = PAGE_ITEMS,
        revision: int = 0,
        keys_only: bool = False,
    ) -> Page:
        rules.check_range(prefix, limit)
        self._settle()
        past = self._changed_since(revision) if revision else {}
        found: list[KeyValue] = []
        for key in self._keys_under(prefix, after, past):
            item = past[key] if key in past else self._items.get(key)
            if item is None:
                continue
            if len(found) == limit:
                return Page(found, revision or self.revision, True)
            found.append(rules.without_value(item) if keys_only else item)
        return Page(found, revision or self.revision, False)

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        rules.check_txn(compares, writes)
        self._settle()
        if not all(rules.holds(compare, self._items.get(compare.key)) for compare in compares):
            return TxnResult(False, self.revision)
        for write in writes:
            if isinstance(write, Put) and write.lease:
                self._leases.get(write.lease)
        self._apply(writes)
        return TxnResult(True, self.revision)

    async def grant(self, ttl_s: int) -> int:
        rules.check_ttl(ttl_s)
        self._settle()
        id = self._world.random.getrandbits(62) + 1
        self._leases.add(id, ttl_s, self._world.clock.monotonic())
        self._arm()
        return id

    async def keep_alive(self, lease: int) -> int:
        self._settle()
        return self._leases.renew(lease, self._world.clock.monotonic())

    async def revoke(self, lease: int) -> None:
        self._settle()
        self._end(lease)

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        rules.check_watch(prefix, from_revision)
        self._settle()
        return LocalWatch(self._feed, prefix, from_revision, nothing_older)

    async def close(self) -> None:
        """Ends the watches; later calls raise StoreUnavailable."""
        self._closed = True
        self._feed.close()
        await self._tasks.close()

    async def compact(self, revision: int) -> None:
        """Forget what happened before `revision`, as etcd's compaction does.

        Raises ValueError when `revision` is in the future.
        """
        if revision > self.revision:
            raise ValueError(f"cannot compact at revision {revision}, the newest is {self.revision}")
        self._compacted = max(self._compacted, revision)
        self._feed.drop_before(revision)
        self._feed.wake()

    def _settle(self) -> None:
        """Time has passed since the last call: end the leases that are over."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        for id in self._leases.due(self._world.clock.monotonic()):
            self._end(id)

    def _end(self, lease: int) -> None:
        keys = self._leases.remove(lease)
        self._apply([Delete(key) for key in sorted(keys)])

    def _apply(self, writes: Iterable[Write]) -> None:
        revision = self.revision + 1
        events: list[Event] = []
        before: list[KeyValue | None] = []
        for write in writes:
            old = self._items.get(write.key)
            if isinstance(write, Put):
                events.append(Event(Change.PUT, self._put(write, old, revision)))
                before.append(old)
            elif old is not None:
                del self._items[write.key]
                self._order.remove(write.key)
                self._leases.move(write.key, old.lease, 0)
                events.append(Event(Change.DELETE, rules.tombstone(write.key, revision)))
                before.append(old)
        if events:
            self._feed.append(Revision(revision, tuple(events), tuple(before)))

    def _put(self, write: Put, old: KeyValue | None, revision: int) -> KeyValue:
        if old is None:
            item = KeyValue(write.key, write.value, revision, revision, 1, write.lease)
            self._order.add(write.key)
        else:
            item = KeyValue(write.key, write.value, old.create_revision, revision, old.version + 1, write.lease)
        self._leases.move(write.key, old.lease if old else 0, write.lease)
        self._items[write.key] = item
        return item

    def _changed_since(self, revision: int) -> dict[str, KeyValue | None]:
        """What the keys that changed after `revision` were at `revision`."""
        if revision > self.revision:
            raise ValueError(f"revision {revision} is in the future, the newest is {self.revision}")
        if revision + 1 < self._feed.first or revision < self._compacted:
            raise Compacted(revision)
        past: dict[str, KeyValue | None] = {}
        for entry in self._feed.since(revision + 1, self.revision - revision):
            for event, old in zip(entry.events, entry.before, strict=True):
                past.setdefault(event.item.key, old)
        return past

    def _keys_under(self, prefix: str, after: str, past: dict[str, KeyValue | None]) -> Iterable[str]:
        gone = [key for key in past if key not in self._items and key.startswith(prefix) and key > after]
        now = self._order.under(prefix, after)
        return heapq.merge(now, sorted(gone)) if gone else now

    def _arm(self) -> None:
        """Have the reaper awake when the next lease ends, so that watches hear of it."""
        due = self._leases.next_due()
        if due is None or self._closed:
            return
        if self._reaper is not None and not self._reaper.done():
            if self._reaper_at <= due:
                return
            self._reaper.cancel()
        self._reaper_at = due
        self._reaper = self._tasks.start("leases", self._reap())

    async def _reap(self) -> None:
        while (due := self._leases.next_due()) is not None:
            self._reaper_at = due
            await self._world.clock.sleep(due - self._world.clock.monotonic())
            self._settle()
