"""Reads from the file: points, ranges now and in the past, and history for watches.

Every read sees all acknowledged writes: SQLite shows a commit to readers only
after it is on disk, and the writer acknowledges after the commit.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Iterator, Sequence

from eru.model.errors import Compacted
from eru.store import rules
from eru.store.contract import KeyValue, Page
from eru.store.embedded.history import unpack
from eru.store.feed import Revision

HISTORY_BYTES = 4_000_000  # of history read at once (whole revisions, at least one)

_ITEM = "key, value, create_revision, mod_revision, version, lease"
_KEY = "key, x'', create_revision, mod_revision, version, lease"


class Reader:
    """Blocking reads over one connection; one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, key: str) -> KeyValue | None:
        row = self._db.execute(f"SELECT {_ITEM} FROM kv WHERE key = ?", (key,)).fetchone()
        return KeyValue(*row) if row else None

    def get_many(self, keys: Sequence[str]) -> dict[str, KeyValue]:
        """All from one commit."""
        rows = self._db.execute(
            f"SELECT {_ITEM} FROM kv WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)),)
        )
        return {row[0]: KeyValue(*row) for row in rows}

    def close(self) -> None:
        """Give up the connection."""
        self._db.close()

    def revision(self) -> int:
        newest: int = self._db.execute("SELECT max(revision) FROM log").fetchone()[0]
        return newest

    def leases(self) -> list[tuple[int, int]]:
        """(id, ttl in seconds) of all leases."""
        return self._db.execute("SELECT id, ttl_s FROM lease ORDER BY id").fetchall()

    def range(self, prefix: str, after: str, limit: int, revision: int, keys_only: bool) -> Page:
        """A page, all of it from one revision."""
        self._db.execute("BEGIN")
        try:
            newest = self.revision()
            past = self._changed_since(prefix, revision, newest) if revision else {}
            found: list[KeyValue] = []
            for item in self._walk(prefix, after, limit, past, keys_only):
                if len(found) == limit:
                    return Page(found, revision or newest, True)
                found.append(rules.without_value(item) if keys_only else item)
            return Page(found, revision or newest, False)
        finally:
            self._db.execute("COMMIT")

    def history(self, from_revision: int) -> list[Revision]:
        """Some of the revisions from `from_revision` on, without a gap. Raises Compacted."""
        self._db.execute("BEGIN")
        try:
            self._check_kept(from_revision)
            revisions: list[Revision] = []
            size = 0
            for revision, changes in self._db.execute(
                "SELECT revision, changes FROM log WHERE revision >= ? ORDER BY revision", (from_revision,)
            ):
                revisions.append(unpack(revision, changes))
                size += len(changes)
                if size >= HISTORY_BYTES:
                    break
            return revisions
        finally:
            self._db.execute("COMMIT")

    def _check_kept(self, revision: int) -> None:
        oldest = self._db.execute("SELECT min(revision) FROM log").fetchone()[0]
        if revision < oldest:
            raise Compacted(revision)

    def _changed_since(self, prefix: str, revision: int, newest: int) -> dict[str, KeyValue | None]:
        """What the keys under `prefix` that changed after `revision` were at `revision`."""
        if revision > newest:
            raise ValueError(f"revision {revision} is in the future, the newest is {newest}")
        if revision == newest:
            return {}
        self._check_kept(revision)
        past: dict[str, KeyValue | None] = {}
        for changed, changes in self._db.execute(
            "SELECT revision, changes FROM log WHERE revision > ? ORDER BY revision", (revision,)
        ):
            entry = unpack(changed, changes)
            for event, old in zip(entry.events, entry.before, strict=True):
                if event.item.key.startswith(prefix):
                    past.setdefault(event.item.key, old)
        return past

    def _walk(
        self, prefix: str, after: str, limit: int, past: dict[str, KeyValue | None], keys_only: bool
    ) -> Iterator[KeyValue]:
        """Items under `prefix` after `after` in key order, as they were before the changes in `past`."""
        columns = _KEY if keys_only else _ITEM
        start = "key > ?" if after >= prefix else "key >= ?"
        end = rules.prefix_end_text(prefix)
        rows = self._db.execute(
            f"SELECT {columns} FROM kv WHERE {start}" + (" AND key < ?" if end else "") + " ORDER BY key LIMIT ?",
            (max(after, prefix), *([end] if end else []), limit + 1 + len(past)),
        )
        now = (KeyValue(*row) for row in rows if row[0] not in past)
        if not past:
            return now
        then = sorted((item for item in past.values() if item and item.key > after), key=lambda item: item.key)
        return heapq.merge(now, then, key=lambda item: item.key)
