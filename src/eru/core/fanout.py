"""Workload statuses to many readers: what they have in common is done once.

Events come from the live view. One task takes whatever has gathered, reads the
workloads' records in one go and hands the whole burst to every reader that
wants it; readers with equal filters share it, and what one of them makes of it
(a serialised message) the others find made.

A reader that falls behind is not cut off at once: of each workload only its
newest state waits for it, so that it catches up with the truth and skips what
lies in between. It is cut off when more workloads than `subscriber_queue_max`
have changed meanwhile.

When the view had to be read anew (compaction, a long outage), what vanished
meanwhile is told as well: each filter knows which statuses there were.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import structlog

from eru.core.settings import CoreSettings
from eru.core.statuses import StatusEvent
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import EruError, Refused, StoreError
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Workload, WorkloadStatus
from eru.store.contract import Store
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

RECORDS_MAX = 4_096  # workload records kept for coming events
RECORDS_S = 1.0  # age up to which they are used
BURST_MAX = 1_000  # events handled at a time
LAG_MAX = 1_000  # changes that may wait for a reader before only the newest of each workload does
_RETRY_S = 1.0


@dataclass(slots=True)
class Changed:
    """A status event with its workload; `error` instead of the workload when that cannot be loaded.

    `made` is what a reader made of it, for the other readers.
    """

    id: str
    revision: int
    status: WorkloadStatus | None  # None: deleted
    workload: Workload | None = None
    error: str = ""
    made: Any = None

    @property
    def deleted(self) -> bool:
        return self.status is None


@dataclass(slots=True)
class Burst:
    """Changes in the order of their revisions, shared by readers; `made` as in Changed."""

    changes: Sequence[Changed]
    made: Any = None


class Reader:
    """One stream. Iteration gives bursts; it ends when the core drains, with Refused when it was too slow."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bursts: deque[Burst] = deque()  # bounded by `_most` changes, see `offer`
        self._waiting = 0
        self._thin_above = LAG_MAX
        self._ready = asyncio.Event()
        self._over = False
        self._cut = False
        self.skipped = 0

    def offer(self, burst: Burst) -> None:
        """Never waits."""
        if self._over:
            return
        self._bursts.append(burst)
        self._waiting += len(burst.changes)
        if self._waiting > self._thin_above:
            self._thin()
        self._ready.set()

    def _thin(self) -> None:
        newest: dict[str, Changed] = {}
        for burst in self._bursts:
            for change in burst.changes:
                newest.pop(change.id, None)
                newest[change.id] = change
        self.skipped += self._waiting - len(newest)
        self._bursts.clear()
        self._waiting = len(newest)
        self._thin_above = max(LAG_MAX, 2 * len(newest))
        if len(newest) > self._most:
            self._cut = True
            self.end()
            return
        self._bursts.append(Burst(list(newest.values())))

    def end(self) -> None:
        """No more; what waits is still delivered."""
        self._over = True
        self._ready.set()

    async def __aiter__(self) -> AsyncIterator[Burst]:
        while True:
            while self._bursts:
                burst = self._bursts.popleft()
                self._waiting -= len(burst.changes)
                yield burst
            if self._over:
                break
            self._ready.clear()
            await self._ready.wait()
        if self._cut:
            raise Refused(f"this stream was cut off: more than {self._most} workloads changed before it was read")


@dataclass(slots=True, eq=False)
class _Filter:
    """Readers that want the same, and the statuses that exist as far as they were told."""

    prefix: tuple[str, ...]
    labels: dict[str, str]
    readers: set[Reader] = field(default_factory=set)
    known: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> app, entrypoint, node
    gone: set[str] | None = None  # while `known` is read: what vanished meanwhile
    again: bool = False  # the view had a gap while `known` was read

    def wants(self, place: tuple[str, str, str]) -> bool:
        return place[: len(self.prefix)] == self.prefix

    def note(self, event: StatusEvent) -> None:
        if event.status is None:
            self.known.pop(event.id, None)
            if self.gone is not None:
                self.gone.add(event.id)
        else:
            self.known[event.id] = (event.appname, event.entrypoint, event.nodename)
            if self.gone is not None:
                self.gone.discard(event.id)

    def carried(self, change: Changed) -> bool:
        """A workload that is not known any more has no labels to compare: its end is told to everybody."""
        if not self.labels or change.workload is None:
            return True
        labels = change.workload.labels
        return all(labels.get(key) == value for key, value in self.labels.items())


class Fanout:
    """See the module."""

    def __init__(self, world: World, store: Store, keys: Keys, settings: CoreSettings, tasks: TaskOwner) -> None:
        self._world = world
        self._store = store
        self._keys = keys
        self._lag_max = settings.subscriber_queue_max
        self._tasks = tasks
        self._filters: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], _Filter] = {}
        self._records: OrderedDict[str, tuple[float, Workload]] = OrderedDict()
        self._queue: deque[StatusEvent] = deque()  # bounded by twice the number of workloads, see `hear`
        self._thin_above = self._lag_max
        self._ready = asyncio.Event()
        self._closed = False
        self.skipped = 0  # changes that slow readers were not told, for metrics

    @property
    def followed(self) -> bool:
        """Whether anybody reads."""
        return bool(self._filters)

    @property
    def readers(self) -> int:
        """Open streams."""
        return sum(len(found.readers) for found in self._filters.values())

    @contextlib.contextmanager
    def subscribe(self, wanted: WorkloadFilter) -> Iterator[Reader]:
        """What changes from now on, for as long as the block lasts."""
        prefix, labels = _prefix(wanted), tuple(sorted(wanted.labels.items()))
        found = self._filters.get((prefix, labels))
        if found is None:
            found = self._filters[prefix, labels] = _Filter(prefix, dict(wanted.labels), gone=set())
            self._tasks.start(f"statuses of {'/'.join(prefix) or 'all'}", self._learn(found))
        reader = Reader(self._lag_max)
        found.readers.add(reader)
        if self._closed:
            reader.end()
        try:
            yield reader
        finally:
            self.skipped += reader.skipped
            found.readers.discard(reader)
            if not found.readers and self._filters.get((prefix, labels)) is found:
                del self._filters[prefix, labels]

    def close(self) -> None:
        """End all streams, present and future."""
        self._closed = True
        for found in self._filters.values():
            for reader in found.readers:
                reader.end()

    # Events in.

    def hear(self, event: StatusEvent) -> None:
        """From the live view, in order."""
        if not self._filters:
            return
        place = (event.appname, event.entrypoint, event.nodename)
        for found in self._filters.values():
            if found.wants(place):
                found.note(event)
        self._queue.append(event)
        if len(self._queue) > self._thin_above:
            newest = {event.id: event for event in self._queue}
            self._queue = deque(sorted(newest.values(), key=_revision))
            self._thin_above = max(self._lag_max, 2 * len(newest))
        self._ready.set()

    def vanished(self, there: Set[str], revision: int) -> list[StatusEvent]:
        """What readers know and is not `there` any more, after a gap that ended at `revision`."""
        gone: dict[str, StatusEvent] = {}
        for found in self._filters.values():
            found.again = found.gone is not None
            for id, (app, entrypoint, nodename) in found.known.items():
                if id not in there and id not in gone:
                    gone[id] = StatusEvent(app, entrypoint, nodename, id, None, revision)
        return list(gone.values())

    async def _learn(self, wanted: _Filter) -> None:
        """Which statuses exist, so that their end can be told even if it is not seen."""
        after, revision = "", 0
        prefix = self._keys.status(*wanted.prefix)
        while wanted.readers:
            if wanted.again:
                wanted.again, wanted.gone, revision, after = False, set(), 0, ""
                wanted.known.clear()
            try:
                page = await self._store.range(prefix, after=after, revision=revision, keys_only=True)
            except StoreError as error:
                _log.info("statuses are not known yet", error=str(error))
                revision, after = 0, ""
                await self._world.clock.sleep(self._world.jitter(_RETRY_S))
                continue
            revision = page.revision
            for item in page.items:
                _, (app, entrypoint, nodename, id) = self._keys.split(item.key)
                if wanted.gone is not None and id not in wanted.gone:
                    wanted.known.setdefault(id, (app, entrypoint, nodename))
            if not page.more and not wanted.again:
                break
            after = page.items[-1].key if page.items else ""
        wanted.gone = None

    # Bursts out.

    async def run(self) -> None:
        """Hand on what was heard. Runs as a background task."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._queue:
                many = min(len(self._queue), BURST_MAX)
                await self._hand_on([self._queue.popleft() for _ in range(many)])

    async def _hand_on(self, events: list[StatusEvent]) -> None:
        filters = list(self._filters.values())
        wanted = [
            (event, [found for found in filters if found.wants((event.appname, event.entrypoint, event.nodename))])
            for event in events
        ]
        changes = await self._resolved([event for event, by in wanted if by])
        bursts: dict[int, list[Changed]] = {}
        for event, by in wanted:
            for found in by:
                change = changes[event.id, event.revision]
                if found.carried(change):
                    bursts.setdefault(id(found), []).append(change)
        for found in filters:
            ours = bursts.get(id(found))
            if ours:
                burst = Burst(ours)
                for reader in found.readers:
                    reader.offer(burst)

    async def _resolved(self, events: list[StatusEvent]) -> dict[tuple[str, int], Changed]:
        now = self._world.clock.monotonic()
        for event in events:
            if event.status is None:
                self._records.pop(event.id, None)
        missing = {event.id for event in events if not self._fresh(event.id, now)}
        failure = ""
        if missing:
            try:
                found = await self._store.get_many([self._keys.workload(id) for id in sorted(missing)])
                for item in found.values():
                    workload = Workload.decode(item.value)
                    self._records[workload.id] = (now, workload)
                    self._records.move_to_end(workload.id)
            except EruError as error:
                failure = str(error)
        changes = {}
        for event in events:
            kept = self._records.get(event.id)
            if kept is not None and (event.id not in missing or not failure):
                changed = Changed(event.id, event.revision, event.status, kept[1])
            else:
                why = failure or f"workload {event.id!r} does not exist"
                changed = Changed(event.id, event.revision, event.status, None, why)
            changes[event.id, event.revision] = changed
        while self._records:
            oldest = next(iter(self._records))
            if len(self._records) <= RECORDS_MAX and now - self._records[oldest][0] <= RECORDS_S:
                break
            del self._records[oldest]
        return changes

    def _fresh(self, id: str, now: float) -> bool:
        kept = self._records.get(id)
        return kept is not None and now - kept[0] <= RECORDS_S


def _revision(event: StatusEvent) -> int:
    return event.revision


def _prefix(wanted: WorkloadFilter) -> tuple[str, ...]:
    """App, then entrypoint, then node; after the first empty one the rest does not count."""
    parts: list[str] = []
    for part in (wanted.appname, wanted.entrypoint, wanted.nodename):
        if not part:
            break
        parts.append(part)
    return tuple(parts)
