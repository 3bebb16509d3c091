"""Turns changes into guarded transactions: merged while they wait, split when they lose.

A `Change` is one all-or-nothing step of an operation. It touches the resource
record of at most one node. Changes that are submitted while others are on
their way to the store are merged into one transaction, up to the store's
limits; a node's resource record is in at most one transaction of this core at
a time, so that this core never races itself.

A transaction that fails, or whose answer got lost, is read back: each change
says by `settled` whether it took effect. That is safe because each
transaction changes a key that it compares: of two tries at most one succeeds,
however late the first one arrives.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from eru.core.fleet import Fleet
from eru.core.session import Identity
from eru.core.settings import CoreSettings
from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.model.errors import (
    Conflict,
    EruError,
    InvalidInput,
    LeaseLost,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    StoreUnavailable,
)
from eru.model.nodes import NodeResource, Resources
from eru.model.stored import Stored
from eru.store.contract import TXN_OPS_MAX, Compare, KeyValue, Put, Store, TxnResult, Write, unchanged
from eru.store.keys import Keys

_log = structlog.get_logger(__name__)

ROUNDS_MAX = 12  # tries of one change, each with what was read anew
UNKNOWN_READS_MAX = 8  # tries to find out what became of an unanswered transaction
TXN_BYTES_MAX = 900_000  # values of one merged transaction without its nodes' records; no change is added above it
BUILT_BYTES_MAX = 1_300_000  # the same with the records, as it goes to the store, which takes some more
_RESERVED_OPS = 2  # the registration's compare, and one spare


@dataclass(frozen=True, slots=True)
class Step:
    """What a change is, given the node's record: compares, writes, and the usage afterwards.

    `usage` None: the resource record stays as it is. `values`: what written values say, by key.
    """

    compares: Sequence[Compare]
    writes: Sequence[Write]
    usage: Resources | None = None
    values: Mapping[str, Stored] = field(default_factory=dict)


class Change(ABC):
    """One step of an operation. `ops`: an upper bound of compares and of writes that `build` returns."""

    nodename: str  # whose resource record it needs, or ""
    identity: Identity
    ops: int
    blocking: bool = False  # `build` may take long: it is run in a thread

    @abstractmethod
    def build(self, capacity: Resources, usage: Resources) -> Step:
        """The step on top of this record. May raise EruError: the change is refused, nothing happens."""

    @abstractmethod
    def proof_keys(self) -> list[str]:
        """Keys that `settled` wants to see."""

    @abstractmethod
    def settled(self, found: Mapping[str, KeyValue]) -> int:
        """The revision at which it took effect, by these keys; 0 when it has not.

        Raises EruError when it never can any more.
        """

    revision: int = 0  # at which it took effect; 0 while it has not


@dataclass(slots=True)
class _Waiting:
    change: Change
    outcome: asyncio.Future[None]
    alone: bool = False
    rounds: int = 0
    unanswered: bool = False  # an earlier try may still arrive

    def succeed(self, revision: int) -> None:
        self.change.revision = revision
        if not self.outcome.done():
            self.outcome.set_result(None)

    def fail(self, error: BaseException, *, final: bool = False) -> None:
        """`final`: no earlier try can take effect any more either."""
        if self.unanswered and not final and not isinstance(error, NoCapacity):
            error = OutcomeUnknown(f"nobody knows whether a change was made: {error}")
        if not self.outcome.done():
            self.outcome.set_exception(error)


@dataclass(slots=True)
class Counters:
    """For metrics."""

    transactions: int = 0
    changes: int = 0
    conflicts: int = 0
    unknown: int = 0


@dataclass(slots=True)
class _Built:
    """A transaction in the making."""

    waiting: list[_Waiting] = field(default_factory=list)
    later: list[_Waiting] = field(default_factory=list)
    refused: list[tuple[_Waiting, EruError]] = field(default_factory=list)
    compares: dict[str, Compare] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    resources: dict[str, tuple[Resources, Resources]] = field(default_factory=dict)  # node -> capacity, usage
    written: set[str] = field(default_factory=set)
    values: dict[str, tuple[bytes, Stored]] = field(default_factory=dict)  # what is written, as objects
    size: int = 0


class Committer:
    """See the module."""

    def __init__(self, store: Store, keys: Keys, fleet: Fleet, tasks: TaskOwner, settings: CoreSettings) -> None:
        self._store = store
        self._keys = keys
        self._fleet = fleet
        self._tasks = tasks
        self._settings = settings
        self._queue: deque[_Waiting] = deque()
        self._busy: set[str] = set()
        self._flights = 0
        self._scheduled = False
        self._closed = False
        self.counters = Counters()

    @property
    def waiting(self) -> int:
        """Changes that wait to be sent."""
        return len(self._queue)

    def close(self) -> None:
        """Nothing is committed any more; what waits fails."""
        self._closed = True
        while self._queue:
            self._queue.popleft().fail(StoreUnavailable("this core is stopping"))

    async def commit(self, change: Change) -> int:
        """Make the change; the revision it is in force at, at the latest.

        Raises what `build` raised; Conflict when others changed the same
        things; LeaseLost when the registration ended; StoreError. After
        OutcomeUnknown or StoreUnavailable nobody knows whether it happened or
        still will.

        A caller that is cancelled still waits for the outcome: `change.revision`
        tells whether it happened.
        """
        if change.ops > TXN_OPS_MAX - _RESERVED_OPS:
            raise ValueError(f"a change of {change.ops} operations does not fit into one transaction")
        if self._closed:
            raise StoreUnavailable("this core is stopping")
        waiting = _Waiting(change, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._schedule()
        try:
            await asyncio.shield(waiting.outcome)
        except asyncio.CancelledError:
            await _outlast(waiting.outcome)
            raise
        return change.revision

    # Gathering.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        while not self._closed and self._queue and self._flights < self._settings.store_parallel_max:
            batch = self._gather()
            if not batch:
                return
            nodes = {waiting.change.nodename for waiting in batch} - {""}
            self._busy |= nodes
            self._flights += 1
            flight = self._tasks.start("commit", self._fly(batch, nodes))
            flight.add_done_callback(partial(_crashed, batch))

    def _gather(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        seen: set[str] = set()
        room = TXN_OPS_MAX - _RESERVED_OPS
        while self._queue:
            waiting = self._queue.popleft()
            name = waiting.change.nodename
            need = waiting.change.ops + (1 if name and name not in seen else 0)
            if (name and name in self._busy) or need > room or (batch and (waiting.alone or batch[0].alone)):
                left.append(waiting)
                if need > room:
                    break
                continue
            batch.append(waiting)
            room -= need
            if name:
                seen.add(name)
        left.extend(self._queue)
        self._queue = left
        return batch

    # Flying.

    async def _fly(self, batch: list[_Waiting], nodes: set[str]) -> None:
        back: list[_Waiting] = []
        try:
            back = await self._attempt(batch)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.unanswered = True
                waiting.fail(StoreUnavailable("this core is stopping"))
            raise
        except BaseException as error:
            for waiting in batch:
                waiting.fail(error)
            raise
        finally:
            self._busy -= nodes
            self._flights -= 1
            self._queue.extendleft(reversed(back))
            if self._closed:
                self.close()
            else:
                self._schedule()

    async def _attempt(self, batch: list[_Waiting]) -> list[_Waiting]:
        """One transaction; returns what has to be tried again."""
        if any(waiting.change.blocking for waiting in batch):
            built = await asyncio.to_thread(self._build, batch)
        else:
            built = self._build(batch)
        for waiting, refusal in built.refused:
            waiting.fail(refusal)
        later = built.later
        if not built.waiting:
            return later
        self.counters.transactions += 1
        self._fleet.expect(built.values)
        try:
            return later + await self._send(built)
        finally:
            self._fleet.expect_no_more(built.values)

    async def _send(self, built: _Built) -> list[_Waiting]:
        """The transaction goes to the store; returns what has to be tried again."""
        try:
            result = await self._store.txn(list(built.compares.values()), built.writes)
        except OutcomeUnknown:
            self.counters.unknown += 1
            for waiting in built.waiting:
                waiting.unanswered = True
            return await self._read_back(built.waiting)
        except EruError as error:
            for waiting in built.waiting:
                waiting.fail(error)
            return []
        if not result.succeeded:
            self.counters.conflicts += 1
            return await self._read_back(built.waiting)
        self._took_effect(built, result)
        return []

    def _build(self, batch: list[_Waiting]) -> _Built:
        """One transaction of as many of `batch` as fit in one."""
        built = self._together(batch)
        if built.size <= BUILT_BYTES_MAX:
            return built
        if len(built.waiting) > 1:  # large nodes: their records are counted only here, when they are written
            half = len(batch) // 2
            built = self._build(batch[:half])
            built.later.extend(batch[half:])
            return built
        alone = built.waiting[0]
        words = (
            f"node {alone.change.nodename!r}: a record of {built.size} bytes is more than the {BUILT_BYTES_MAX}"
            " that the store takes at once; divide the machine into smaller nodes"
        )
        refused = _Built()
        refused.refused = [*built.refused, (alone, InvalidInput(words))]
        refused.later = built.later
        return refused

    def _together(self, batch: list[_Waiting]) -> _Built:
        built = _Built()
        for waiting in batch:
            if built.size > TXN_BYTES_MAX:
                built.later.append(waiting)
                continue
            try:
                self._add(built, waiting)
            except EruError as error:
                built.refused.append((waiting, error))
        for name, (capacity, usage) in built.resources.items():
            revision = self._fleet.view.by_name[name].resource_revision
            key = self._keys.resource(name)
            built.compares[key] = unchanged(key, revision)
            record = NodeResource(capacity=capacity, usage=usage)
            put = Put(key, record.encode())
            built.size += len(put.value)
            built.writes.append(put)
            built.values[key] = (put.value, record)
        return built

    def _add(self, built: _Built, waiting: _Waiting) -> None:
        change = waiting.change
        change.identity.check()
        capacity: Resources = {}
        usage: Resources = {}
        if change.nodename:
            capacity, usage = built.resources.get(change.nodename) or self._record(change.nodename)
        step = change.build(capacity, usage)
        guard = change.identity.guard
        if _clash(built, step):
            built.later.append(waiting)
            return
        built.compares[guard.key] = guard
        for compare in step.compares:
            built.compares[compare.key] = compare
        built.writes.extend(step.writes)
        built.written.update(write.key for write in step.writes)
        for write in step.writes:
            if isinstance(write, Put):
                built.size += len(write.value)
                if (value := step.values.get(write.key)) is not None:
                    built.values[write.key] = (write.value, value)
        if step.usage is not None:
            built.resources[change.nodename] = (capacity, step.usage)
        built.waiting.append(waiting)

    def _record(self, nodename: str) -> tuple[Resources, Resources]:
        found = self._fleet.view.by_name.get(nodename)
        if found is None or not found.resource_revision:
            raise NotFound(f"node {nodename!r} does not exist any more")
        return found.capacity, found.usage

    def _took_effect(self, built: _Built, result: TxnResult) -> None:
        self._fleet.committed(result.revision, built.writes)
        self.counters.changes += len(built.waiting)
        for waiting in built.waiting:
            waiting.succeed(result.revision)

    async def _read_back(self, batch: list[_Waiting]) -> list[_Waiting]:
        """After a failure: who took effect after all, who never can, and who tries again."""
        keys: dict[str, None] = {}
        for waiting in batch:
            keys |= dict.fromkeys(waiting.change.proof_keys())
            keys[waiting.change.identity.guard.key] = None
            if waiting.change.nodename:
                keys[self._keys.resource(waiting.change.nodename)] = None
        try:
            found = await self._read(list(keys))
        except EruError as error:
            for waiting in batch:
                waiting.fail(error)
            return []
        for nodename in {waiting.change.nodename for waiting in batch} - {""}:
            item = found.get(self._keys.resource(nodename))
            if item is not None:
                self._fleet.learned(item)
        again = []
        for waiting in batch:
            if self._judge(waiting, found):
                again.append(waiting)
        return again

    def _judge(self, waiting: _Waiting, found: Mapping[str, KeyValue]) -> bool:
        """Settle it one way or the other; True when it has to be tried again."""
        change = waiting.change
        try:
            if revision := change.settled(found):
                waiting.succeed(revision)
                return False
            if change.identity.guard.key not in found:
                raise LeaseLost(f"core {change.identity.id} lost its registration in the store; try again")
            if change.nodename and self._keys.resource(change.nodename) not in found:
                raise NotFound(f"node {change.nodename!r} does not exist any more")
        except EruError as error:
            waiting.fail(error, final=True)
            return False
        waiting.rounds += 1
        waiting.alone = waiting.rounds > 1
        if waiting.rounds >= ROUNDS_MAX:
            where = f" on node {change.nodename}" if change.nodename else ""
            waiting.fail(Conflict(f"lost {ROUNDS_MAX} races in a row{where}; try again"))
            return False
        return True

    async def _read(self, keys: list[str]) -> Mapping[str, KeyValue]:
        backoff = Backoff(self._fleet.world, first_s=0.05, most_s=2.0)
        for left in range(UNKNOWN_READS_MAX - 1, -1, -1):
            try:
                return await self._store.get_many(keys)
            except StoreUnavailable as error:
                if not left:
                    raise OutcomeUnknown(f"the store does not say what became of a transaction: {error}") from error
                await backoff.wait()
        raise AssertionError("unreachable")


def _crashed(batch: list[_Waiting], task: asyncio.Task[None]) -> None:
    """A flight that was cancelled, perhaps before its first step, still answers those who wait."""
    if task.cancelled():
        for waiting in batch:
            waiting.unanswered = True
            waiting.fail(StoreUnavailable("this core is stopping"))


def _clash(built: _Built, step: Step) -> bool:
    """Whether the step speaks of keys that others in the same transaction change."""
    if any(write.key in built.written or write.key in built.compares for write in step.writes):
        return True
    return any(
        compare.key in built.written or built.compares.get(compare.key, compare) != compare for compare in step.compares
    )


async def _outlast(outcome: asyncio.Future[None]) -> None:
    """Wait for the end whatever happens; the store's own time limits bound it."""
    while not outcome.done():
        try:
            await asyncio.wait({outcome})
        except asyncio.CancelledError:
            continue
    outcome.exception()  # looked at: the caller is going away
