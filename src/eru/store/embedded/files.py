"""The files of an embedded store: the directory's lock, the database, its format, its failures."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eru.model.errors import StoreError, StoreUnavailable

FORMAT = 1  # raise it with every change of the tables, and convert in `connect`
APPLICATION_ID = 0x45525531  # "ERU1": marks the file as ours
BUSY_MS = 5_000  # how long to wait for a person who looks into the file with a tool
WAL_PAGES = 4_000  # of 4 KiB; the log is folded into the file when it has grown to this
WAL_KEEP_BYTES = 64 * 1024 * 1024  # what the log file may keep on disk after that

# log.changes is the msgpack form of list[history.Logged]; x'90' is the empty list

_TABLES = f"""
CREATE TABLE kv (
    key TEXT PRIMARY KEY,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv (lease) WHERE lease <> 0;
CREATE TABLE log (revision INTEGER PRIMARY KEY, changes BLOB NOT NULL);
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_s INTEGER NOT NULL);
INSERT INTO log VALUES (1, x'90');
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""


class DirectoryLock:
    """One process per directory. The lock goes with the process, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._file: int | None = None

    def take(self) -> None:
        """Raises StoreError naming the holder's process id."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise StoreError(
                f"store directory {self._path.parent} is in use by process {holder}:"
                " stop that process or choose another directory"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Let another process have the directory."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def prepare_directory(directory: Path) -> None:
    """Make the directory, for its owner only. Raises StoreError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        database(directory).touch(mode=0o600)
    except OSError as error:
        raise StoreError(
            f"store directory {directory} cannot be used: {error.strerror};"
            " choose a directory that this user may write to"
        ) from error


def database(directory: Path) -> Path:
    """Where the data is."""
    return directory / "store.db"


def create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a new file; refuse one that is not ours or is newer than we are."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        connection.executescript(f"BEGIN;{_TABLES}COMMIT;")
    elif application != APPLICATION_ID:
        raise StoreError(f"store file {path} is a database of another program: choose another directory")
    elif version != FORMAT:
        raise StoreError(f"store file {path} has format {version}, this version reads format {FORMAT}: upgrade eru")


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """A connection that any one thread at a time may use. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    if read_only:  # for readers: WAL lets them go on beside the writer
        connection.execute("PRAGMA query_only = 1")
        return connection
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEEP_BYTES}")
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StoreErrors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """One clear sentence for a failure of the file. StoreUnavailable if it can pass by itself."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(f"store file {path}: the disk is full, free some space on it")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(f"store file {path} is damaged ({error}): restore it from a backup, or move it away")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"store file {path} cannot be written ({error}): check its owner and permissions")
    return StoreUnavailable(f"store file {path}: {error}")
