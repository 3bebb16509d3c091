"""The live view: this core's copy of what the store says about nodes, usage and counts.

Read once at a revision, then followed by one watch from the next revision on,
without gaps. When the watch cannot go on (compaction, a long outage) the view
is read anew. What this core itself commits is applied at once
(`committed`), so that its own next plan sees it.

A plan made on a view that is a moment old is harmless, because every
transaction compares what it was based on. A *refusal* is different: nobody
would notice that it was wrong, so it is only given from a view that is at
least as new as the request (`fresh`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TypeVar

import structlog

from eru.core.fanout import Fanout
from eru.core.settings import CoreSettings
from eru.core.statuses import Hub, NodeEvent, StatusEvent
from eru.core.view import NodeView, View
from eru.lib.world import World
from eru.model.cores import Registration
from eru.model.errors import Compacted, EruError, NotFound, StoreError, StoreUnavailable
from eru.model.intents import Group, Intent, Verb
from eru.model.nodes import Node, NodeResource
from eru.model.stored import Stored
from eru.model.workloads import WorkloadStatus
from eru.resource.contract import Kind
from eru.store.contract import PAGE_ITEMS, Change, Event, KeyValue, Page, Put, Store, Watch, Write
from eru.store.keys import Keys

S = TypeVar("S", bound=Stored)

_log = structlog.get_logger(__name__)

_ROOMS = ("pod", "core", "node", "resource", "heartbeat", "intent", "group")
_OWN_PRUNE_ABOVE = 4_096


class Fleet:
    """Follows the store; see the module. `view` may be read freely between two awaits."""

    def __init__(self, world: World, store: Store, keys: Keys, settings: CoreSettings, kinds: dict[str, Kind]) -> None:
        self.world = world
        self.store = store
        self.keys = keys
        self.settings = settings
        self.view = View(kinds)
        self.revision = 0
        self.rebuilds = 0
        self.node_events: Hub[NodeEvent] = Hub(settings.subscriber_queue_max)
        self.core_events: Hub[dict[str, str]] = Hub(settings.subscriber_queue_max)
        self.statuses: Hub[StatusEvent] = Hub(settings.subscriber_queue_max)
        self.cores_changed = asyncio.Event()
        self.forget_engine: Callable[[str], None] = lambda nodename: None  # set by the composition
        self.readers: Fanout | None = None  # of workload statuses; set by the composition
        self._watch: Watch | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()
        self._expected: dict[str, tuple[bytes, Stored]] = {}  # values on their way to the store, as objects
        self._own: dict[str, list[int]] = {}  # key -> revisions of changes applied before the watch brings them
        self._counted = keys.of_app()
        self._reads = 0  # of the store's revision, begun so far
        self._reading: asyncio.Future[None] | None = None  # done when the one under way has ended
        self._read = (0, 0)  # number of the newest that succeeded, and the revision
        self._gone: dict[str, list[asyncio.Future[None]]] = {}

    # What operations ask.

    async def start(self) -> None:
        """Read everything once; raises StoreError."""
        await self._load()

    async def follow(self) -> None:
        """Keep the view up to date for ever. Runs as a background task."""
        while True:
            try:
                await self._follow_once()
                await self.world.clock.sleep(self.settings.watch_retry_s)
            except Compacted as gap:
                _log.warning("live view fell behind, reading anew", error=str(gap))
                await self._reload()
            except EruError as error:
                _log.warning("live view is interrupted", error=str(error))
                await self.world.clock.sleep(self.settings.watch_retry_s)

    async def caught_up(self, revision: int) -> None:
        """Wait until the view is at least at `revision`; StoreUnavailable when that takes too long."""
        if revision <= self.revision:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._number), done))
        if self._watch is not None:
            await self._watch.request_progress()
        try:
            async with asyncio.timeout(self.settings.fresh_wait_s):
                await done
        except TimeoutError:
            raise StoreUnavailable(
                f"this core's view of the cluster is at revision {self.revision} and does not reach {revision}: "
                "is the store reachable?"
            ) from None

    async def fresh(self) -> int:
        """Wait until the view is as new as the store is now; that revision."""
        revision = await self._newest()
        await self.caught_up(revision)
        return revision

    async def _newest(self) -> int:
        """The store's revision, read after this was called; requests of the same moment share a read."""
        arrived = self._reads
        while self._reading is not None:
            await asyncio.shield(self._reading)
            if self._read[0] > arrived:  # it was begun after this request came
                return self._read[1]
        self._reads += 1
        number, reading = self._reads, asyncio.get_running_loop().create_future()
        self._reading = reading
        try:
            page = await self.store.range(self.keys.cluster_id, limit=1, keys_only=True)
            self._read = (number, page.revision)
            return page.revision
        finally:  # however it ended: the next one who waits reads again
            self._reading = None
            reading.set_result(None)

    def node(self, name: str) -> NodeView:
        """A node that exists; NotFound if the view has none of that name."""
        found = self.view.by_name.get(name)
        if found is None or found.node is None:
            raise NotFound(f"node {name!r} does not exist")
        return found

    async def node_surely(self, name: str) -> NodeView:
        """As `node`, but what the view does not know yet is waited for."""
        try:
            return self.node(name)
        except NotFound:
            await self.fresh()
            return self.node(name)

    def core_addresses(self) -> list[str]:
        """Where clients can connect to, sorted."""
        return sorted({address for address in self._core_addresses().values() if address})

    def intent_of(self, nodename: str, name: str) -> Intent | None:
        """What is being done with a workload right now, by whatever core."""
        found = self.view.intents.get(self.keys.intent(nodename, name))
        return found.intent if found else None

    async def intent_gone(self, nodename: str, name: str, wait_s: float) -> bool:
        """Wait until nothing is being done with the workload; False after `wait_s`.

        A lambda that runs does not count: it may be stopped and removed by others.
        """
        key = self.keys.intent(nodename, name)
        found = self.view.intents.get(key)
        if found is None or (found.intent.verb is Verb.LAMBDA and not found.intent.counted):
            return True
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone.setdefault(key, []).append(gone)
        try:
            async with asyncio.timeout(wait_s):
                await gone
        except TimeoutError:
            return False
        return True

    # What `core.commit` tells.

    def expect(self, values: Mapping[str, tuple[bytes, Stored]]) -> None:
        """Values that are about to be written, with what they say: reading them back costs more than all planning."""
        self._expected.update(values)

    def expect_no_more(self, keys: Iterable[str]) -> None:
        """The transaction with these values has ended, one way or the other."""
        for key in keys:
            self._expected.pop(key, None)

    def committed(self, revision: int, writes: Sequence[Write]) -> None:
        """This core's own transaction took effect at `revision`."""
        if revision <= self.revision:
            return  # the watch was faster
        for write in writes:
            self._own.setdefault(write.key, []).append(revision)
            if isinstance(write, Put):
                item = KeyValue(write.key, write.value, 0, revision, 0, write.lease)
                self._apply(Event(Change.PUT, item), created=True)
            else:
                self._apply(Event(Change.DELETE, KeyValue(write.key, b"", 0, revision, 0)))

    def learned(self, item: KeyValue) -> None:
        """A resource record as it was just read from the store."""
        room, parts = self.keys.split(item.key)
        if room == "resource":
            record = NodeResource.decode(item.value)
            self.view.set_resource(parts[0], record.capacity, record.usage, item.mod_revision)

    # Following.

    async def _follow_once(self) -> None:
        watch = await self.store.watch(self.keys.everything, self.revision + 1)
        self._watch = watch
        try:
            if self._waiting:
                await watch.request_progress()
            async for batch in watch:
                for event in batch.events:
                    self._event(event)
                self._reached(batch.revision)
        finally:
            self._watch = None
            await watch.close()

    def _event(self, event: Event) -> None:
        item = event.item
        own = self._own.get(item.key)
        if own is not None:
            # Counts add up, so that a change of somebody else from before our own still has to be added;
            # of everything else only the newest state matters.
            newest = max(own)
            mine = item.mod_revision in own
            if item.mod_revision >= newest:
                del self._own[item.key]
            if mine or (item.mod_revision < newest and not item.key.startswith(self._counted)):
                return
        self._apply_safely(event, created=item.version == 1)

    def _apply_safely(self, event: Event, *, created: bool) -> None:
        """A value or key that nobody understands must not stop the view."""
        try:
            self._apply(event, created)
        except (EruError, LookupError, ValueError) as error:
            _log.error("a stored value cannot be read", key=event.item.key, error=str(error))

    def _reached(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        if len(self._own) > _OWN_PRUNE_ABOVE:  # deletions of what was not there bring no event
            self._own = {key: own for key, own in self._own.items() if max(own) > self.revision}
        while self._waiting and self._waiting[0][0] <= self.revision:
            _, _, done = heapq.heappop(self._waiting)
            if not done.done():
                done.set_result(None)

    def _apply(self, event: Event, created: bool = False) -> None:
        item = event.item
        room, parts = self.keys.split(item.key)
        put = event.change is Change.PUT
        view = self.view
        match room:
            case "resource":
                if put:
                    record = self._meaning(NodeResource, item)
                    view.set_resource(parts[0], record.capacity, record.usage, item.mod_revision)
                else:
                    view.drop_resource(parts[0])
            case "of-app":
                if created or not put:
                    view.add_count(parts[0], parts[1], parts[2], 1 if put else -1)
            case "intent":
                if put:
                    view.put_intent(item.key, self._meaning(Intent, item), item.mod_revision)
                else:
                    view.drop_intent(item.key)
                    self._intent_went(item.key)
            case "group":
                if put:
                    view.groups[item.key] = parts[0], Group.decode(item.value).owner
                else:
                    view.groups.pop(item.key, None)
            case "status":
                self._status_event(parts, item, put)
            case "heartbeat":
                was = view.by_name.get(parts[0])
                told = put or (was is not None and was.heartbeat)
                view.set_heartbeat(parts[0], put)
                if told:
                    self._node_event(parts[0], put, item.mod_revision)
            case "node":
                if not put:  # the end of a node is told once, whether it was alive or not
                    self._node_event(parts[0], False, item.mod_revision)
                    view.set_heartbeat(parts[0], False)
                view.set_node(parts[0], Node.decode(item.value) if put else None, item.mod_revision)
                if not put:
                    self.forget_engine(parts[0])
            case "node-tls":
                self.forget_engine(parts[0])
            case "pod":
                _set(view.pods, parts[0], item.value if put else None)
            case "core":
                _set(view.cores, parts[0], item.value if put else None)
                self._cores_changed()
            case _:
                pass

    def _meaning(self, kind: type[S], item: KeyValue) -> S:
        """The object that a value stands for."""
        expected = self._expected.get(item.key)
        if expected is not None and expected[0] == item.value and isinstance(expected[1], kind):
            return expected[1]
        return kind.decode(item.value)

    def _status_event(self, parts: list[str], item: KeyValue, put: bool) -> None:
        if self.statuses:
            status = WorkloadStatus.decode(item.value) if put else None
            self.statuses.publish(StatusEvent(parts[0], parts[1], parts[2], parts[3], status, item.mod_revision))

    def _node_event(self, name: str, alive: bool, revision: int) -> None:
        if self.node_events:
            found = self.view.by_name.get(name)
            podname = found.node.podname if found and found.node else ""
            self.node_events.publish(NodeEvent(name, podname, alive, revision))

    def _intent_went(self, key: str) -> None:
        for gone in self._gone.pop(key, ()):
            if not gone.done():
                gone.set_result(None)

    def _cores_changed(self) -> None:
        self.cores_changed.set()
        if self.core_events:
            self.core_events.publish(self._core_addresses())

    def _core_addresses(self) -> dict[str, str]:
        return {name: Registration.decode(value).address for name, value in self.view.cores.items()}

    # Reading anew.

    async def _reload(self) -> None:
        while True:
            try:
                await self._load()
            except StoreError as error:
                _log.warning("the live view cannot be read", error=str(error))
                await self.world.clock.sleep(self.settings.watch_retry_s)
            else:
                return

    async def _load(self) -> None:
        """Read all rooms at one revision and put them in place of what was known, in one step."""
        items: list[KeyValue] = []
        revision = 0
        for room in _ROOMS:
            prefix = f"{self.keys.root}/{room}/"
            async for page in self._pages(prefix, revision):
                revision = revision or page.revision
                items.extend(page.items)
        counts = await self._count(revision)
        statuses = (
            await self._statuses(revision)
            if self.rebuilds and self.readers is not None and self.readers.followed
            else None
        )
        before = self.revision
        self._replace(items, counts, revision)
        if statuses is not None and self.readers is not None:
            there = {item.key.rpartition("/")[2] for item in statuses}
            for event in self.readers.vanished(there, revision):
                self.statuses.publish(event)
            for item in statuses:
                if item.mod_revision > before:
                    self._status_event(self.keys.split(item.key)[1], item, True)

    async def _statuses(self, revision: int) -> list[KeyValue]:
        """All there are at that revision, for readers who would miss what happened in a gap."""
        return [item async for page in self._pages(self.keys.status(), revision) for item in page.items]

    async def _count(self, revision: int) -> Counter[str]:
        """Instances by "app/entrypoint/node": of a million workloads only these are kept."""
        counts: Counter[str] = Counter()
        async for page in self._pages(self._counted, revision, keys_only=True):
            counts.update(item.key[len(self._counted) :].rpartition("/")[0] for item in page.items)
        return counts

    async def _pages(self, prefix: str, revision: int, *, keys_only: bool = False) -> AsyncIterator[Page]:
        """All under the prefix; `revision` 0: as it is now."""
        after, more = "", True
        while more:
            page = await self.store.range(prefix, after=after, limit=PAGE_ITEMS, revision=revision, keys_only=keys_only)
            yield page
            revision, more = page.revision, page.more
            after = page.items[-1].key if page.items else after

    def _replace(self, items: list[KeyValue], counts: Mapping[str, int], revision: int) -> None:
        before = {name: found.heartbeat for name, found in self.view.by_name.items()}
        waiting = dict(self._gone)
        self.view.reset()
        self._own.clear()
        for item in items:
            room, parts = self.keys.split(item.key)
            if room == "heartbeat":
                self.view.set_heartbeat(parts[0], True)
                continue
            self._apply_safely(Event(Change.PUT, item), created=True)
        for place, many in counts.items():
            parts = place.split("/")
            if len(parts) == 3:
                self.view.add_count(parts[0], parts[1], parts[2], many)
            else:
                _log.error("a stored key cannot be read", key=f"{self._counted}{place}")
        self.view.sweep_rows()
        for key in waiting:
            if key not in self.view.intents:
                self._intent_went(key)
        if self.rebuilds:
            self._tell_heartbeats(before, revision)
        self.rebuilds += 1
        self.cores_changed.set()
        self._reached(revision)

    def _tell_heartbeats(self, before: dict[str, bool], revision: int) -> None:
        for name, found in self.view.by_name.items():
            if before.get(name, False) != found.heartbeat:
                self._node_event(name, found.heartbeat, revision)
        for name, beat in before.items():
            if beat and name not in self.view.by_name:
                self._node_event(name, False, revision)


def _set(into: dict[str, bytes], key: str, value: bytes | None) -> None:
    if value is None:
        into.pop(key, None)
    else:
        into[key] = value
