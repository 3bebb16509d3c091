"""What is particular to the embedded store: its file, its lock, its restarts, its failures."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eru.lib.world import real_world
from eru.model.errors import Compacted, LeaseLost, StoreError, StoreUnavailable
from eru.store.contract import Change, Put, absent, range_all
from eru.store.embedded import EmbeddedStore, History

WORLD = real_world()
KEEP = History()

WRITER = """
import asyncio, sys
from eru.lib.world import real_world
from eru.store.contract import Put
from eru.store.embedded import EmbeddedStore

async def write(store, worker):
    for number in range(1_000_000):
        keys = [f"/w/{worker}/{number}/a", f"/w/{worker}/{number}/b"]
        await store.txn([], [Put(key, b"x" * 300) for key in keys])
        sys.stdout.write(f"{worker} {number}\\n")
        sys.stdout.flush()

async def main():
    store = await EmbeddedStore.open(sys.argv[1], real_world())
    await asyncio.gather(*(write(store, worker) for worker in range(8)))

asyncio.run(main())
"""


async def reopened(store: EmbeddedStore, directory: Path, history: History = KEEP) -> EmbeddedStore:
    await store.close()
    return await EmbeddedStore.open(directory, WORLD, history)


def killed_writer(directory: Path) -> list[str]:
    """What a process acknowledged before it was killed in the middle of writing."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(400)]
        process.send_signal(signal.SIGKILL)
        return lines + process.stdout.read().splitlines()


async def test_kill_9_while_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acked: set[tuple[str, str]] = set()
    for _ in range(3):
        lines = killed_writer(tmp_path)
        acked |= {(words[0], words[1]) for line in lines if len(words := line.split()) == 2}
        store = await EmbeddedStore.open(tmp_path, WORLD)
        found = {item.key for item in (await range_all(store, "/w/"))[0]}
        await store.close()
        missing = [entry for entry in acked if not {f"/w/{entry[0]}/{entry[1]}/{part}" for part in "ab"} <= found]
        assert not missing
        assert {key[:-1] for key in found if key.endswith("/a")} == {key[:-1] for key in found if key.endswith("/b")}
    assert len(acked) >= 400


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    first = (await store.txn([], [Put("/a", b"1")])).revision
    await store.txn([], [Put("/a", b"2"), Put("/b", b"")])
    store = await reopened(store, tmp_path)
    assert store.revision == first + 1
    item = await store.get("/a")
    assert item is not None
    assert (item.value, item.create_revision, item.mod_revision, item.version) == (b"2", first, first + 1, 2)
    watch = await store.watch("/", first)  # from the file: memory starts empty
    batch = await anext(aiter(watch))
    assert [(event.item.key, event.item.value) for event in batch.events] == [("/a", b"1"), ("/a", b"2"), ("/b", b"")]
    page = await store.range("/", revision=first)
    assert [(item.key, item.value) for item in page.items] == [("/a", b"1")]
    await store.close()


async def test_leases_get_their_full_time_after_a_restart(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    short, long = await store.grant(1), await store.grant(60)
    await store.txn([], [Put("/short", b"", short), Put("/long", b"", long)])
    revision = store.revision
    store = await reopened(store, tmp_path)
    assert await store.get("/short") is not None
    assert await store.keep_alive(long) == 60
    async with asyncio.timeout(60):
        batch = await anext(aiter(await store.watch("/", revision + 1)))
    assert [(event.change, event.item.key) for event in batch.events] == [(Change.DELETE, "/short")]
    store = await reopened(store, tmp_path)
    with pytest.raises(LeaseLost):
        await store.keep_alive(short)
    await store.revoke(long)
    assert await store.get("/long") is None
    await store.close()


async def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    with pytest.raises(StoreError, match=f"{tmp_path} is in use by process {os.getpid()}: stop that process"):
        await EmbeddedStore.open(tmp_path, WORLD)
    await store.close()
    again = await EmbeddedStore.open(tmp_path, WORLD)
    await again.close()


async def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database at all, and it is long enough to be read as one" * 100)
    with pytest.raises(StoreError, match=r"store\.db is damaged"):
        await EmbeddedStore.open(tmp_path, WORLD)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    other.close()
    with pytest.raises(StoreError, match="database of another program"):
        await EmbeddedStore.open(tmp_path, WORLD)


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(StoreError, match="has format 99, this version reads format 1: upgrade eru"):
        await EmbeddedStore.open(tmp_path, WORLD)


async def open_and_read(directory: Path) -> None:
    store = await EmbeddedStore.open(directory, WORLD)
    try:
        await range_all(store, "/k/")
    finally:
        await store.close()


async def test_a_damaged_page_is_reported_and_not_hidden(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    for number in range(200):
        await store.txn([], [Put(f"/k/{number:03}", b"x" * 1_000)])
    await store.close()
    with (tmp_path / "store.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(4096 * 4, size, 4096):
            file.seek(page)
            file.write(b"\xaa" * 512)
    with pytest.raises(StoreError, match="damaged"):
        await open_and_read(tmp_path)


async def test_a_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be used: Not a directory; choose a directory"):
        await EmbeddedStore.open(tmp_path / "file" / "store", WORLD)


async def test_a_full_disk_refuses_writes_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    await store.txn([], [Put("/a", b"1")])
    connection = store._write_connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then answers as on a full disk
    results = await asyncio.gather(
        *(store.txn([], [Put(f"/b/{number}", b"x" * 10_000)]) for number in range(5)), return_exceptions=True
    )
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert "the disk is full, free some space" in str(results[0])
    assert (await store.range("/b/")).items == []
    connection.execute("PRAGMA max_page_count = 1000000")
    revision = store.revision
    assert (await store.txn([absent("/b/0")], [Put("/b/0", b"x" * 10_000)])).revision == revision + 1
    await store.close()


@pytest.mark.parametrize(
    "history",
    [History(revisions=50, check_s=0.01), History(file_bytes=50_000, check_s=0.01), History(age_s=0.05, check_s=0.01)],
    ids=["count", "bytes", "age"],
)
async def test_history_in_the_file_is_bounded(tmp_path: Path, history: History) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD, history)
    for number in range(300):
        await store.txn([], [Put("/k", b"x" * 1_000)])
        await asyncio.sleep(0.001 * (number % 10 == 0))
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.02)
            store = await reopened(store, tmp_path)  # memory is empty then: the watch reads the file
            try:
                await anext(aiter(await store.watch("/", 2)))
            except Compacted:
                break
            store = await reopened(store, tmp_path, history)
    assert await store.get("/k") is not None
    await store.close()


async def test_a_watch_far_behind_reads_the_file(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD, History(memory_bytes=20_000))
    watch = await store.watch("/", 2)
    for number in range(500):
        await store.txn([], [Put("/k", b"%03d" % number + b"x" * 1_000)])
    values: list[bytes] = []
    async for batch in watch:
        values += [event.item.value[:3] for event in batch.events]
        if batch.revision == store.revision:
            break
    assert values == [b"%03d" % number for number in range(500)]
    await store.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await EmbeddedStore.open(tmp_path, WORLD)
    watch = await store.watch("/", 2)
    pending = [store.txn([], [Put(f"/{number}", b"")]) for number in range(20)]
    tasks = [asyncio.ensure_future(work) for work in pending]
    await asyncio.sleep(0)
    await store.close()
    assert all(result.succeeded for result in await asyncio.gather(*tasks))  # what waited was still done
    for work in (store.get("/a"), store.range("/"), store.txn([], []), store.grant(5), anext(aiter(watch))):
        with pytest.raises(StoreUnavailable, match="closed"):
            await work
    await store.close()
