"""The one thread that writes: takes what waits, does it in one commit, then answers.

Group commit: one fsync for all transactions that wait at the same time. Each
transaction still has its own revision and its own compares.
"""

from __future__ import annotations

import contextlib
import json
import queue
import sqlite3
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eru.model.errors import EruError, LeaseLost, OutcomeUnknown, StoreError
from eru.store import rules
from eru.store.contract import Change, Compare, Delete, Event, KeyValue, Put, TxnResult, Write
from eru.store.embedded import files, history
from eru.store.feed import Revision

GROUP_JOBS = 256  # transactions in one commit
PRUNE_REVISIONS = 100  # of history deleted together with one commit, or twice its transactions if that is more

FEW_KEYS = 8  # read one by one; more in one query

_ITEM = "key, value, create_revision, mod_revision, version, lease"
_SELECT = f"SELECT {_ITEM} FROM kv WHERE key = ?"
_SELECT_MANY = f"SELECT {_ITEM} FROM kv WHERE key IN (SELECT value FROM json_each(?))"


@dataclass(slots=True)
class Job:
    """Work for the writer, and who waits for it."""

    work: Callable[[Session], object]
    future: Future[Any]
    claim: threading.Lock = field(default_factory=threading.Lock)

    def claimed(self) -> bool:
        """Whoever gets True first (writer: do it; waiter: withdraw it) has it."""
        return self.claim.acquire(blocking=False)


Delivery = Callable[[list[tuple[Job, object]], list[Revision]], None]


class Session:
    """The state of the store inside one commit. Only the writer's thread touches it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.prune_before = 0
        self.load()

    def load(self) -> None:
        """Start from what is committed, at first and after a rollback."""
        self.revision: int = self._db.execute("SELECT max(revision) FROM log").fetchone()[0]
        self.leases: set[int] = {row[0] for row in self._db.execute("SELECT id FROM lease")}
        self.entries: list[Revision] = []
        self.stale = False

    def txn(self, compares: Sequence[Compare], writes: Sequence[Write]) -> TxnResult:
        """All or nothing. Raises LeaseLost before anything is written."""
        items = self._read([*(compare.key for compare in compares), *(write.key for write in writes)])
        for compare in compares:
            if not rules.holds(compare, items.get(compare.key)):
                return TxnResult(False, self.revision)
        for write in writes:
            if isinstance(write, Put) and write.lease and write.lease not in self.leases:
                raise LeaseLost(f"lease {write.lease:x} has ended")
        self._apply(writes, items)
        return TxnResult(True, self.revision)

    def grant(self, id: int, ttl_s: int) -> int:
        """Make a lease last over a restart."""
        self._db.execute("INSERT INTO lease VALUES (?, ?)", (id, ttl_s))
        self.leases.add(id)
        return id

    def end(self, id: int) -> None:
        """Delete a lease and its keys, in one revision."""
        if id not in self.leases:
            return
        rows = self._db.execute(f"SELECT {_ITEM} FROM kv WHERE lease = ? AND lease <> 0 ORDER BY key", (id,))
        items = {row[0]: KeyValue(*row) for row in rows}
        self._apply([Delete(key) for key in items], items)
        self._db.execute("DELETE FROM lease WHERE id = ?", (id,))
        self.leases.discard(id)

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`, now."""
        if revision > self.revision:
            raise ValueError(f"cannot compact at revision {revision}, the newest is {self.revision}")
        self._db.execute("DELETE FROM log WHERE revision < ?", (revision,))

    def forget(self, before: int) -> None:
        """Forget the history before `before`, little by little with the next commits."""
        self.prune_before = max(self.prune_before, before)

    def prune(self, most: int) -> bool:
        """Forget up to `most` revisions of what `forget` asked for; True when there are more."""
        if not self.prune_before:
            return False
        oldest: int = self._db.execute("SELECT min(revision) FROM log").fetchone()[0]
        edge = min(self.prune_before, oldest + most)
        self._db.execute("DELETE FROM log WHERE revision < ?", (edge,))
        if edge == self.prune_before:
            self.prune_before = 0
        return self.prune_before != 0

    def _read(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        if len(keys) > FEW_KEYS:
            rows = self._db.execute(_SELECT_MANY, (json.dumps(keys, ensure_ascii=False),))
            return {row[0]: KeyValue(*row) for row in rows}
        found: dict[str, KeyValue] = {}
        for key in set(keys):
            row = self._db.execute(_SELECT, (key,)).fetchone()
            if row:
                found[key] = KeyValue(*row)
        return found

    def _apply(self, writes: Sequence[Write], items: dict[str, KeyValue]) -> None:
        """Make the writes; `items` has those of their keys that exist."""
        revision = self.revision + 1
        events: list[Event] = []
        olds: list[KeyValue | None] = []
        rows: list[tuple[str, bytes, int, int, int, int]] = []
        for write in writes:
            old = items.get(write.key)
            if isinstance(write, Put):
                created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
                row = (write.key, write.value, created, revision, version, write.lease)
                rows.append(row)
                events.append(Event(Change.PUT, KeyValue(*row)))
                olds.append(old)
            elif old is not None:
                self._db.execute("DELETE FROM kv WHERE key = ?", (write.key,))
                events.append(Event(Change.DELETE, rules.tombstone(write.key, revision)))
                olds.append(old)
        if events:
            self._db.executemany(f"INSERT OR REPLACE INTO kv ({_ITEM}) VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("INSERT INTO log VALUES (?, ?)", (revision, history.pack(events, olds)))
            self.revision = revision
            self.entries.append(Revision(revision, tuple(events)))


class Writer:
    """Runs jobs in its own thread and hands results and new revisions to `deliver` on the loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path, loop: AbstractEventLoop, deliver: Delivery) -> None:
        self._db = connection
        self._path = path
        self._loop = loop
        self._deliver = deliver
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._session = Session(connection)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    @property
    def session(self) -> Session:
        """For reading its revision before `start`."""
        return self._session

    def start(self) -> None:
        """Begin to take jobs."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; the owner bounds how many wait."""
        self._queue.put(job)

    def stop(self) -> None:
        """Finish what is queued and end. Blocks until done."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        more = False
        while running:
            jobs, running = self._take(block=not more)
            try:
                more = self._commit(jobs)
            except Exception as error:  # noqa: BLE001 - the waiters must hear of it, whatever it was
                more = False
                self._answer([(job, error) for job in jobs], [])

    def _take(self, block: bool) -> tuple[list[Job], bool]:
        """The jobs that wait, at least one if `block`; and whether to go on after them."""
        jobs: list[Job] = []
        try:
            while len(jobs) < GROUP_JOBS:
                job = self._queue.get(block=block and not jobs)
                if job is None:
                    return jobs, False
                if job.claimed():
                    jobs.append(job)
        except queue.Empty:
            pass
        return jobs, True

    def _commit(self, jobs: list[Job]) -> bool:
        """Do the jobs in one commit and answer them; True when history waits to be pruned."""
        session = self._session
        session.entries = []
        results: list[tuple[Job, object]] = []
        more = False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            if session.stale:
                session.load()
            results = [(job, self._do(job)) for job in jobs]
            more = session.prune(max(PRUNE_REVISIONS, 2 * len(jobs)))
        except sqlite3.Error as error:
            self._roll_back()
            self._answer([(job, files.explain(error, self._path)) for job in jobs], [])
            return False
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            failure = commit_failure(error, self._path)
            self._answer([(job, failure) for job in jobs], [])
            return False
        self._answer(results, session.entries)
        return more

    def _do(self, job: Job) -> object:
        """The result, or the error that concerns this job only."""
        try:
            return job.work(self._session)
        except (EruError, ValueError) as error:
            return error

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # SQLite has then rolled back by itself
                self._db.execute("ROLLBACK")
        self._session.stale = True

    def _answer(self, results: list[tuple[Job, object]], entries: list[Revision]) -> None:
        if not results and not entries:
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, results, entries)
        except RuntimeError:
            return  # the loop has ended; nobody waits


def commit_failure(error: sqlite3.Error, path: Path) -> StoreError:
    """A full disk leaves the commit undone; after any other I/O error nobody can know."""
    explained = files.explain(error, path)
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
        return OutcomeUnknown(f"{explained}; it is not known whether the last changes were kept")
    return explained
