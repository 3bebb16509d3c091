"""Writes what agents report of workloads: reports that wait while others are on their way share one transaction.

Each transaction compares that the workloads exist and that their statuses are
as this core knows them, so that reports need no read before, an old report
whose answer got lost can never undo a newer one, and what says nothing new
writes nothing. App, entrypoint and node are taken from the workload's record,
whatever was reported.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import structlog

from eru.core.early import EarlyReports
from eru.core.statuses import StatusEvent
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import Conflict, EruError, InvalidInput, LeaseLost, NotFound, OutcomeUnknown, StoreUnavailable
from eru.model.intents import Intent
from eru.model.names import parse_workload_name
from eru.model.workloads import Workload, WorkloadStatus
from eru.store.contract import Compare, KeyValue, Put, Store, Write, present, unchanged
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

BATCH = 60  # statuses in one transaction: two compares each
BATCH_BYTES = 900_000  # of them together, unless it is one
FLIGHTS_MAX = 2  # transactions under way
KNOWN_MAX = 50_000  # workloads whose place and last status are remembered; a forgotten one costs a read
ROUNDS_MAX = 8  # tries against concurrent changes


@dataclass(slots=True)
class _Known:
    """Where a workload's status is, and what it was when this core last saw it."""

    key: str
    appname: str
    entrypoint: str
    nodename: str
    value: bytes = b""
    revision: int = -1  # -1: not known; 0: there is none
    lease: int = 0


@dataclass(slots=True)
class _Call:
    """One request; `missing` are the workloads that do not exist."""

    outcome: asyncio.Future[None]
    left: int
    missing: list[str] = field(default_factory=list)
    error: EruError | None = None

    def done(self, error: EruError | None = None) -> None:
        self.error = self.error or error
        self.left -= 1
        if self.left == 0 and not self.outcome.done():
            self.outcome.set_result(None)


@dataclass(slots=True)
class _Waiting:
    """One workload's newest report, and who waits for it."""

    status: WorkloadStatus
    calls: list[_Call]
    lease: int = 0

    def settle(self, error: EruError | None = None, *, missing: bool = False) -> None:
        for call in self.calls:
            if missing:
                call.missing.append(self.status.id)
            call.done(error)


class Reports:
    """See the module."""

    def __init__(
        self, world: World, store: Store, keys: Keys, tasks: TaskOwner, intents: Callable[[], Iterable[Intent]]
    ) -> None:
        self.early = EarlyReports(world, store, keys, tasks, intents, self.write)
        self._world = world
        self._store = store
        self._keys = keys
        self._tasks = tasks
        self._queue: OrderedDict[str, _Waiting] = OrderedDict()  # bounded by the calls that a server takes
        self._flying: set[str] = set()
        self._flights = 0
        self._scheduled = False
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._closed = False
        self.transactions = 0

    @property
    def waiting(self) -> int:
        """Reports that wait to be written."""
        return len(self._queue)

    def close(self) -> None:
        """Nothing is written any more; what waits fails."""
        self._closed = True
        while self._queue:
            _, waiting = self._queue.popitem()
            waiting.settle(_stopping())

    def hear(self, event: StatusEvent) -> None:
        """A status that vanished, mostly with its workload, need not be remembered."""
        if event.status is None and event.id not in self._flying:
            self._known.pop(event.id, None)

    async def write(self, reported: Sequence[WorkloadStatus]) -> list[str]:
        """Write what is new; the ids of workloads that do not exist. Raises StoreError, Conflict.

        Of several reports of one workload the last one counts. With a TTL the
        status vanishes that long after its last report.
        """
        if not reported:
            return []
        if self._closed:
            raise _stopping()
        newest = {status.id: status for status in reported}
        self.early.forget(newest)
        call = _Call(asyncio.get_running_loop().create_future(), len(newest))
        for id, status in newest.items():
            there = self._queue.get(id)
            if there is None:
                self._queue[id] = _Waiting(status, [call])
            else:
                there.status = status
                there.calls.append(call)
        self._schedule()
        await call.outcome
        if call.error is not None:
            raise call.error
        return call.missing

    # Gathering.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while not self._closed and self._flights < FLIGHTS_MAX:
            ids: list[str] = []
            size = 0
            for id, waiting in self._queue.items():
                if id in self._flying:
                    continue
                size += len(waiting.status.encode())
                if ids and size > BATCH_BYTES:
                    break
                ids.append(id)
                if len(ids) == BATCH:
                    break
            if not ids:
                return
            batch = {id: self._queue.pop(id) for id in ids}
            self._flying.update(batch)
            self._flights += 1
            flight = self._tasks.start("report", self._fly(batch))
            flight.add_done_callback(partial(self._flew, batch))

    def _flew(self, batch: dict[str, _Waiting], flight: asyncio.Task[None]) -> None:
        for waiting in batch.values():  # left only when the core stops, or by a bug
            waiting.settle(_stopping())
        self._flights -= 1
        if not flight.cancelled():
            self._schedule()

    async def _fly(self, batch: dict[str, _Waiting]) -> None:
        ids = list(batch)
        backoff = Backoff(self._world, first_s=0.01, most_s=0.5)
        try:
            for _ in range(ROUNDS_MAX):
                if await self._attempt(batch):
                    return
                await backoff.wait()
            self._fail(batch, Conflict(f"a status changed {ROUNDS_MAX} times while it was to be written; try again"))
        except EruError as error:
            for waiting in batch.values():
                self._known.pop(waiting.status.id, None)
            self._fail(batch, error)
        except ValueError as error:  # too large for the store even alone
            self._fail(batch, InvalidInput(f"a status cannot be written: {error}"))
        finally:
            self._flying.difference_update(ids)

    def _fail(self, batch: dict[str, _Waiting], error: EruError) -> None:
        for waiting in batch.values():
            waiting.settle(error)
        batch.clear()

    # One transaction.

    async def _attempt(self, batch: dict[str, _Waiting]) -> bool:
        """Whether everything in the batch is settled; else what was known was wrong and has been forgotten."""
        await self._look(batch)
        if not batch:
            return True
        compares: list[Compare] = []
        writes: dict[str, tuple[_Known, Put]] = {}
        for id, waiting in batch.items():
            known = self._known[id]
            compares += [present(self._keys.workload(id)), unchanged(known.key, known.revision)]
            status = msgspec.structs.replace(
                waiting.status, appname=known.appname, entrypoint=known.entrypoint, nodename=known.nodename
            )
            value = status.encode()
            if known.revision and known.value == value and await self._renewed(known.lease, status.ttl_s):
                continue
            if status.ttl_s and not waiting.lease:
                waiting.lease = await self._store.grant(status.ttl_s)
            writes[id] = known, Put(known.key, value, waiting.lease)
        self.transactions += 1
        puts: list[Write] = [put for _, put in writes.values()]
        try:
            result = await self._store.txn(compares, puts)
            succeeded = result.succeeded
        except OutcomeUnknown:
            succeeded = False  # read anew; a second try compares the same keys, so that only one of them counts
        except LeaseLost:
            for waiting in batch.values():
                waiting.lease = 0
            return False
        if not succeeded:
            for id in batch:
                self._known[id].revision = -1
            return False
        for known, put in writes.values():
            known.value, known.revision, known.lease = put.value, result.revision, put.lease
        for waiting in batch.values():
            waiting.settle()
        batch.clear()
        return True

    async def _renewed(self, lease: int, ttl_s: int) -> bool:
        """Whether the status stays for as long as it is reported to."""
        if not ttl_s or not lease:
            return not ttl_s and not lease
        try:
            return await self._store.keep_alive(lease) == ttl_s
        except LeaseLost:
            return False

    async def _look(self, batch: dict[str, _Waiting]) -> None:
        """Read what is not known; settle what does not exist."""
        unknown = [id for id in batch if id not in self._known or self._known[id].revision < 0]
        if not unknown:
            return
        begun = self.early.places()
        records = await self._store.get_many([self._keys.workload(id) for id in unknown])
        for id in unknown:
            record = records.get(self._keys.workload(id))
            if record is None:
                self._known.pop(id, None)
                waiting = batch.pop(id)
                waiting.settle(missing=not self.early.keep(waiting.status, begun))
                continue
            workload = Workload.decode(record.value)
            app, entrypoint, _ = parse_workload_name(workload.name)
            key = self._keys.status(app, entrypoint, workload.nodename, id)
            self._known[id] = _Known(key, app, entrypoint, workload.nodename)
        known = [self._known[id] for id in unknown if id in batch]
        found = await self._store.get_many([one.key for one in known])
        for one in known:
            item: KeyValue | None = found.get(one.key)
            one.value, one.revision, one.lease = (item.value, item.mod_revision, item.lease) if item else (b"", 0, 0)
        while len(self._known) > KNOWN_MAX:
            oldest = next(iter(self._known))
            if oldest in batch or oldest in self._flying:
                break
            del self._known[oldest]


def _stopping() -> StoreUnavailable:
    return StoreUnavailable("this core is stopping")


def missing_error(missing: Sequence[str]) -> NotFound:
    """The sentence for reports of workloads that do not exist."""
    names = ", ".join(missing[:5])
    return NotFound(f"workload {names} does not exist" if len(missing) == 1 else f"workloads {names} do not exist")
