"""The three stores side by side in one run, with etcd as the baseline.

    python benchmarks/store.py [--seconds 2]

Prints operations per second and, for memory and embedded, the ratio to etcd.
The etcd is a fresh one-member cluster on this machine and disk; the embedded
store lies on the same disk; both write every acknowledged change to it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from eru.lib.world import real_world
from eru.store.contract import Put, Store, absent, range_all, unchanged
from eru.store.embedded import EmbeddedStore
from eru.store.etcd import EtcdSettings, EtcdStore
from eru.store.memory import MemoryStore

VALUE = b"v" * 512
WORKERS = 32
BATCH = 100
WARM_S = 0.3

Work = Callable[[Store, int, int], Awaitable[object]]


async def put(store: Store, worker: int, number: int) -> None:
    await store.txn([], [Put(f"/put/{worker}/{number % 1000}", VALUE)])


async def create(store: Store, worker: int, number: int) -> None:
    key = f"/create/{worker}/{number}/{time.monotonic_ns()}"
    assert (await store.txn([absent(key)], [Put(key, VALUE)])).succeeded


async def read_and_swap(store: Store, worker: int, number: int) -> None:
    key = f"/swap/{worker}"
    item = await store.get(key)
    guard = unchanged(key, item.mod_revision) if item else absent(key)
    assert (await store.txn([guard], [Put(key, VALUE)])).succeeded


async def get(store: Store, worker: int, number: int) -> None:
    assert await store.get(f"/put/{worker}/{number % 100}")


async def batch(store: Store, worker: int, number: int) -> None:
    await store.txn([], [Put(f"/batch/{worker}/{number % 20}/{index}", VALUE) for index in range(BATCH)])


async def keep_alive(store: Store, worker: int, number: int) -> None:
    await store.keep_alive(LEASES[store])


LEASES: dict[Store, int] = {}
CASES: list[tuple[str, Work, int, int]] = [  # name, work, workers, keys per operation
    ("put, 1 at a time", put, 1, 1),
    (f"put, {WORKERS} at a time", put, WORKERS, 1),
    (f"create if absent, {WORKERS}", create, WORKERS, 1),
    (f"get + compare and swap, {WORKERS}", read_and_swap, WORKERS, 1),
    ("get, 1 at a time", get, 1, 1),
    (f"get, {WORKERS} at a time", get, WORKERS, 1),
    (f"transactions of {BATCH} puts, 8", batch, 8, BATCH),
    (f"lease keep-alive, {WORKERS}", keep_alive, WORKERS, 1),
]


async def rate(store: Store, work: Work, workers: int, seconds: float) -> float:
    """Operations per second."""
    done = 0
    end = 0.0

    async def run(worker: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < end:
            await work(store, worker, number)
            number += 1
            done += 1
            if number % 50 == 0:
                await asyncio.sleep(0)  # the memory store never waits by itself

    for span in (WARM_S, seconds):
        done, begun = 0, time.perf_counter()
        end = begun + span
        await asyncio.gather(*(run(worker) for worker in range(workers)))
        elapsed = time.perf_counter() - begun
    return done / elapsed


async def watch_rate(store: Store, seconds: float, *, live: bool) -> float:
    """Events per second through a watch: history, or while they are written."""
    start = (await store.txn([], [Put("/watched/start", b"")])).revision
    total = int(10_000 * max(seconds, 1))

    async def write() -> None:
        gate = asyncio.Semaphore(8)

        async def one(number: int) -> None:
            async with gate:
                await store.txn([], [Put(f"/watched/{number}/{index}", VALUE) for index in range(BATCH)])

        await asyncio.gather(*(one(number) for number in range(total // BATCH)))

    async def read() -> None:
        seen = 0
        watch = await store.watch("/watched/", start + 1)
        async for found in watch:
            seen += len(found.events)
            if seen >= total:
                break
        await watch.close()

    if not live:
        await write()
    begun = time.perf_counter()
    await (asyncio.gather(write(), read()) if live else read())
    return total / (time.perf_counter() - begun)


async def latency(store: Store, count: int = 300) -> float:
    """Median microseconds from the start of a put to its event."""
    start = (await store.txn([], [Put("/echo", b"")])).revision
    watch = await store.watch("/echo", start + 1)
    batches = aiter(watch)
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await store.txn([], [Put("/echo", b"")])
        await anext(batches)
        times.append(time.perf_counter() - begun)
    await watch.close()
    return sorted(times)[count // 2] * 1e6


async def range_rate(store: Store) -> float:
    """Keys per second, in pages, of all that the other cases left."""
    begun = time.perf_counter()
    items, _ = await range_all(store, "/")
    return len(items) / (time.perf_counter() - begun)


async def measure(store: Store, seconds: float) -> dict[str, float]:
    LEASES[store] = await store.grant(600)
    await asyncio.gather(*(put(store, worker, number) for worker in range(WORKERS) for number in range(100)))
    found = {name: await rate(store, work, workers, seconds) * keys for name, work, workers, keys in CASES}
    found["watch events, while written"] = await watch_rate(store, seconds, live=True)
    found["watch events, from history"] = await watch_rate(store, seconds, live=False)
    found["keys of a paged range"] = await range_rate(store)
    found["put -> event, median us"] = await latency(store)
    return found


def start_etcd(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    client, peer = (f"http://127.0.0.1:{port}" for port in ports)
    program = shutil.which("etcd", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/bin")
    if program is None:
        sys.exit("etcd is not installed: apt-get install etcd-server")
    process = subprocess.Popen(
        [program, "--data-dir", str(folder), "--listen-client-urls", client, "--advertise-client-urls", client,
         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{client}/health", timeout=1):
                return process, client
        except OSError:
            time.sleep(0.05)
    process.kill()
    sys.exit("etcd does not start")


async def run(seconds: float) -> None:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        process, address = start_etcd(Path(folder) / "etcd")
        try:
            etcd = await EtcdStore.open(EtcdSettings((address,)), real_world())
            results["etcd"] = await measure(etcd, seconds)
            await etcd.close()
        finally:
            process.kill()
            process.wait()
        embedded = await EmbeddedStore.open(Path(folder) / "embedded", real_world())
        results["embedded"] = await measure(embedded, seconds)
        await embedded.close()
    memory = MemoryStore(real_world())
    results["memory"] = await measure(memory, seconds)
    await memory.close()
    heads = ("etcd", "embedded", "/ etcd", "memory", "/ etcd")
    print(f"{'per second, values of 512 bytes':36}" + "".join(f" {head:>{7 if '/' in head else 10}}" for head in heads))
    for name, base in results["etcd"].items():
        row = f"{name:36} {base:10,.0f}"
        for other in ("embedded", "memory"):
            value = results[other][name]
            ratio = base / value if name.endswith(" us") else value / base
            row += f" {value:10,.0f} {ratio:7.2f}"
        print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument("--uvloop", action="store_true", help="use uvloop's event loop")
    arguments = parser.parse_args()
    print(
        f"Python {platform.python_version()}, grpcio {grpc.__version__}, SQLite {sqlite3.sqlite_version},"
        f" {os.cpu_count()} cores, {'uvloop' if arguments.uvloop else 'asyncio'}"
    )
    if arguments.uvloop:
        import uvloop

        uvloop.run(run(arguments.seconds))
    else:
        asyncio.run(run(arguments.seconds))


if __name__ == "__main__":
    main()
