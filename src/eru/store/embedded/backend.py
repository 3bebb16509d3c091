"""The embedded store: the contract over one SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from eru.lib.retry import Backoff
from eru.lib.tasks import TaskOwner
from eru.lib.world import World
from eru.model.errors import OutcomeUnknown, StoreError, StoreUnavailable
from eru.store import rules
from eru.store.contract import PAGE_ITEMS, TXN_OPS_MAX, Compare, KeyValue, Page, TxnResult, Watch, Write
from eru.store.embedded import files
from eru.store.embedded.reader import Reader
from eru.store.embedded.writer import Job, Session, Writer
from eru.store.feed import Feed, LocalWatch, Revision
from eru.store.leases import LeaseTable

R = TypeVar("R")

REQUEST_TIMEOUT_S = 10.0  # a disk that does not answer for so long is called unavailable
NEAR_ITEMS_MAX = 4  # of a range that is read on the loop's thread
WAITING_JOBS = 10_000  # transactions that may wait for the writer


@dataclass(frozen=True, slots=True)
class History:
    """How much of the past is kept for watches and for paged reads."""

    revisions: int = 100_000  # in the file, at most
    age_s: float = 600.0  # in the file, unless there are more than `revisions`
    file_bytes: int = 500_000_000  # in the file, about; the values before and after each change
    check_s: float = 2.0  # how often to look for what is too old or too much
    memory_revisions: int = 10_000  # in memory; watches further behind read the file
    memory_bytes: int = 8_000_000


KEEP = History()


class EmbeddedStore:
    """A `Store` in a directory that one process at a time may open."""

    def __init__(self, directory: Path, world: World, history: History = KEEP) -> None:
        """Use `open` instead: this makes the object, that opens the file."""
        self._directory = directory
        self._world = world
        self._history = history
        self._path = files.database(directory)
        self._lock = files.DirectoryLock(directory)
        self._leases = LeaseTable()
        self._tasks = TaskOwner("embedded store")
        self._threads = ThreadPoolExecutor(1, "store-reader")
        self._waiting = 0
        self._closed = False
        self._lease_added = asyncio.Event()

    @classmethod
    async def open(cls, directory: Path | str, world: World, history: History = KEEP) -> Self:
        """Open or create. Raises StoreError: in use, damaged, not writable, not ours, newer format."""
        store = cls(Path(directory), world, history)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(store._threads, store._open_files, loop)
        except BaseException:
            store._threads.shutdown(wait=False)
            raise
        store._begin()
        return store

    def _open_files(self, loop: asyncio.AbstractEventLoop) -> None:
        files.prepare_directory(self._directory)
        self._lock.take()
        with contextlib.ExitStack() as undo, files.explained(self._path):
            undo.callback(self._lock.release)
            connection = files.connect(self._path)
            undo.callback(connection.close)
            files.create_or_check(connection, self._path)
            self._writer = Writer(connection, self._path, loop, self._deliver)
            self._write_connection = connection
            self._near = Reader(files.connect(self._path, read_only=True))  # points, on the loop's thread
            self._far = Reader(files.connect(self._path, read_only=True))  # ranges, in the reader's thread
            undo.pop_all()

    def _begin(self) -> None:
        self._feed = Feed(self._writer.session.revision, self._history.memory_revisions, self._history.memory_bytes)
        now = self._world.clock.monotonic()
        for id, ttl_s in self._near.leases():
            self._leases.add(id, ttl_s, now)
        self._writer.start()
        self._tasks.start("leases", self._end_leases())
        self._tasks.start("history", self._forget_history())

    @property
    def revision(self) -> int:
        """The newest revision that watches can see."""
        return self._feed.revision

    async def get(self, key: str) -> KeyValue | None:
        rules.check_key(key)
        self._check_open()
        with files.explained(self._path):
            return self._near.get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        for key in keys:
            rules.check_key(key)
        self._check_open()
        if len(keys) > TXN_OPS_MAX:
            return await self._read(partial(self._far.get_many, keys))
        with files.explained(self._path):
            return self._near.get_many(keys)

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
        if limit <= NEAR_ITEMS_MAX and not revision:  # cheaper than the way to a thread and back
            self._check_open()
            with files.explained(self._path):
                return self._near.range(prefix, after, limit, revision, keys_only)
        return await self._read(partial(self._far.range, prefix, after, limit, revision, keys_only))

    async def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        rules.check_txn(compares, writes)
        compares, writes = tuple(compares), tuple(writes)
        return await self._write(lambda session: session.txn(compares, writes))

    async def grant(self, ttl_s: int) -> int:
        rules.check_ttl(ttl_s)
        id = self._world.random.getrandbits(62) + 1
        self._leases.add(id, ttl_s, self._world.clock.monotonic())
        self._lease_added.set()
        return await self._write_idempotent(lambda session: session.grant(id, ttl_s))

    async def keep_alive(self, lease: int) -> int:
        self._check_open()
        return self._leases.renew(lease, self._world.clock.monotonic())

    async def revoke(self, lease: int) -> None:
        await self._write_idempotent(lambda session: session.end(lease))
        self._leases.remove(lease)

    async def watch(self, prefix: str, from_revision: int) -> Watch:
        rules.check_watch(prefix, from_revision)
        self._check_open()
        return LocalWatch(self._feed, prefix, from_revision, self._older)

    async def compact(self, revision: int) -> None:
        """Forget what happened before `revision`. Raises ValueError when that is in the future."""
        await self._write(lambda session: session.compact(revision))
        self._feed.drop_before(revision)
        self._feed.wake()

    async def close(self) -> None:
        """Finish what waits, end the watches, fold the log into the file, unlock the directory."""
        if self._closed:
            return
        self._closed = True
        await self._tasks.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._close_files)
        self._threads.shutdown(wait=False)
        self._feed.close()

    def _close_files(self) -> None:
        self._writer.stop()
        for reader in (self._near, self._far):
            reader.close()
        self._write_connection.close()  # the last connection folds the log into the file
        self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    async def _read(self, work: Callable[[], R]) -> R:
        """Run a long read in the reader's thread."""
        self._check_open()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                with files.explained(self._path):
                    return await loop.run_in_executor(self._threads, work)
        except TimeoutError as error:
            raise StoreUnavailable(f"store file {self._path}: no answer in {REQUEST_TIMEOUT_S:g} s") from error

    async def _write(self, work: Callable[[Session], R]) -> R:
        """Have the writer do it; returns after it is on disk."""
        self._check_open()
        if self._waiting >= WAITING_JOBS:
            raise StoreUnavailable(f"store file {self._path}: {WAITING_JOBS} transactions wait already")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        job = Job(work, future)
        self._waiting += 1
        self._writer.submit(job)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await future
        except TimeoutError as error:
            if job.claimed():  # the writer had not begun, and now never will
                self._waiting -= 1
                raise StoreUnavailable(f"store file {self._path}: no answer in {REQUEST_TIMEOUT_S:g} s") from error
            raise OutcomeUnknown(
                f"store file {self._path}: no answer in {REQUEST_TIMEOUT_S:g} s; not known whether it was written"
            ) from error

    async def _write_idempotent(self, work: Callable[[Session], R]) -> R:
        """For what does no harm when it was done after all."""
        try:
            return await self._write(work)
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error

    def _deliver(self, results: list[tuple[Job, Any]], entries: list[Revision]) -> None:
        """After a commit, on the loop: the answers, then new history.

        Both wake tasks that run after this. A core that hears of its own
        changes by the answer need not read them from a watch.
        """
        self._waiting -= len(results)
        for job, result in results:
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        for entry in entries:
            self._feed.append(entry)

    async def _older(self, from_revision: int, most: int) -> Sequence[Revision]:
        return await self._read(partial(self._far.history, from_revision))

    async def _end_leases(self) -> None:
        """End each lease when its time is over, for as long as the store is open."""
        backoff = Backoff(self._world, most_s=5.0)
        while True:
            for id in self._leases.due(self._world.clock.monotonic()):
                await self._end_lease(id, backoff)
            due = self._leases.next_due()
            wait_s = max(due - self._world.clock.monotonic(), 0.0) if due is not None else None
            self._lease_added.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lease_added.wait(), wait_s)

    async def _end_lease(self, id: int, backoff: Backoff) -> None:
        self._leases.remove(id)
        while True:
            try:
                await self._write(lambda session: session.end(id))
            except StoreError:
                await backoff.wait()  # the disk is full, or the like: the keys must go once it is not
            else:
                backoff.reset()
                return

    async def _forget_history(self) -> None:
        """Every now and then, forget the history that is too old or too much."""
        keep = self._history
        marks: deque[tuple[float, int, int]] = deque()  # time, revision, bytes appended until then
        while True:
            now, appended = self._world.clock.monotonic(), self._feed.appended_bytes
            marks.append((now, self.revision, appended))
            edge = self.revision - keep.revisions
            while now - marks[0][0] > keep.age_s or appended - marks[0][2] > keep.file_bytes:
                edge = max(edge, marks.popleft()[1])
            if edge > 1:
                with contextlib.suppress(StoreError):  # next time
                    await self._write(lambda session, edge=edge: session.forget(edge))  # type: ignore[misc]
            await self._world.clock.sleep(keep.check_s)
