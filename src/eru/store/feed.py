"""The recent history of a store inside this process, and the watches that read it.

Watches share one log and keep only their place in it, so that a slow reader
costs nothing and holds up nobody. A reader that falls behind what is kept in
memory goes on from `older` (the embedded store's file) or ends with
`Compacted`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import msgspec

from eru.model.errors import Compacted, StoreUnavailable
from eru.store.contract import Event, KeyValue, WatchBatch

WATCH_BATCH_EVENTS = 1_000  # a batch ends with the revision that reaches this many events
EVENT_BYTES = 500  # memory that an event takes beside its value
WATCH_SCAN_REVISIONS = 20_000  # looked through in one go before other tasks get their turn


class Revision(msgspec.Struct, frozen=True):
    """One committed transaction; `before` has what each event's key was until then."""

    revision: int
    events: tuple[Event, ...]
    before: tuple[KeyValue | None, ...] = ()


Older = Callable[[int, int], Awaitable[Sequence[Revision]]]
"""(from_revision, most_revisions) -> revisions in order, without a gap; raises Compacted."""


class Feed:
    """A gap-free log of revisions `first`..`revision`, bounded in revisions and in bytes of values.

    It holds up to twice the bounds, and is then cut down to them.
    """

    def __init__(self, revision: int, most_revisions: int, most_bytes: int) -> None:
        self.revision = revision
        self.first = revision + 1
        self._most_revisions = most_revisions
        self._most_bytes = most_bytes
        self._bytes = 0
        self.appended_bytes = 0  # ever, about
        self._log: list[Revision] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False

    def append(self, entry: Revision) -> None:
        """Add the next revision and wake the watches."""
        self._log.append(entry)
        self.revision = entry.revision
        weight = _weight(entry)
        self._bytes += weight
        self.appended_bytes += weight
        if len(self._log) >= 2 * self._most_revisions or self._bytes >= 2 * self._most_bytes:
            self._shrink()
        self.wake()

    def drop_before(self, revision: int) -> None:
        """Forget revisions below `revision`."""
        count = min(revision - self.first, len(self._log))
        if count > 0:
            self._bytes -= sum(map(_weight, self._log[:count]))
            del self._log[:count]
            self.first += count

    def since(self, from_revision: int, most: int) -> Sequence[Revision]:
        """Up to `most` revisions from `from_revision` (not below `first`) on."""
        start = from_revision - self.first
        return self._log[start : start + most]

    def wake(self) -> None:
        """Make every waiting watch look again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait for the next `wake`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _shrink(self) -> None:
        kept, size = 0, 0
        for entry in reversed(self._log):
            size += _weight(entry)
            if kept == self._most_revisions or size > self._most_bytes:
                break
            kept += 1
        self.drop_before(self.revision - kept + 1)

    def close(self) -> None:
        """Watches end with StoreUnavailable."""
        self._closed = True
        self.wake()

    @property
    def closed(self) -> bool:
        return self._closed


class LocalWatch:
    """A `Watch` over a `Feed`. One reader at a time."""

    def __init__(self, feed: Feed, prefix: str, from_revision: int, older: Older) -> None:
        self._feed = feed
        self._prefix = prefix
        self._next = from_revision
        self._older = older
        self._progress = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._closed:
            if self._feed.closed:
                raise StoreUnavailable("the store is closed")
            events = await self._advance()
            caught_up = self._next > self._feed.revision
            if events or (caught_up and self._progress):
                self._progress = self._progress and not caught_up
                return WatchBatch(self._next - 1, events)
            if caught_up:
                await self._feed.changed()
        raise StopAsyncIteration

    async def request_progress(self) -> None:
        """The next batch comes at once, with or without events."""
        self._progress = True
        self._feed.wake()

    async def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self._feed.wake()

    async def _advance(self) -> list[Event]:
        """Move on through the log; the events under the prefix on the way."""
        if self._next > self._feed.revision:
            return []
        if self._next < self._feed.first:
            entries = await self._older(self._next, WATCH_BATCH_EVENTS)
        else:
            entries = self._feed.since(self._next, WATCH_SCAN_REVISIONS)
        events: list[Event] = []
        for entry in entries:
            events.extend(event for event in entry.events if event.item.key.startswith(self._prefix))
            self._next = entry.revision + 1
            if len(events) >= WATCH_BATCH_EVENTS:
                break
        return events


def _weight(entry: Revision) -> int:
    """Bytes of the values, and something for the rest."""
    return sum(len(event.item.value) + EVENT_BYTES for event in entry.events)


async def nothing_older(from_revision: int, most: int) -> Sequence[Revision]:
    """`Older` for a store that keeps its history only in memory."""
    raise Compacted(from_revision)
