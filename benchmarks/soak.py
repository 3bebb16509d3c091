"""One core process under many mixed requests: does it keep its size?

    python benchmarks/soak.py [--requests 200000] [--watchers 2000] [--stores embedded,etcd]

Engines that answer at once. Deploys of 1 and their removal,
reads, heartbeats and status reports from 16 clients; beside them streams whose
clients never read, and open watch streams. Prints resident memory at the
start, at each tenth and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.core_processes import CoreProcess
from support.etcd import EtcdCluster
from support.mixed_load import Load, Watchers, filled


async def soak(core: CoreProcess, requests: int, watchers: int, told: Callable[[str], None]) -> None:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load.on(core.address))
        await filled(load.client)
        await load.run(requests // 20)  # everything has been used once
        told(f"warm: {core.rss_mb():.0f} MiB")
        silent = await stack.enter_async_context(Watchers.on(core.address, 20, reading=False))
        begun, sizes = time.perf_counter(), []
        for tenth in range(1, 11):
            await load.run(requests // 10)
            sizes.append(core.rss_mb())
            told(f"{tenth * 10:>3} %: {core.rss_mb():.0f} MiB, {load.requests / (time.perf_counter() - begun):,.0f}/s")
        told(f"the second half added {sizes[9] - sizes[4]:+.1f} MiB")
        told(f"streams nobody reads: {silent.count}, cut off meanwhile: {silent.ended}")
        before = core.rss_mb()
        await timed(f"opening {watchers:,} watch streams", told, lambda: opened(stack, core, watchers))
        told(f"with them: {core.rss_mb():.0f} MiB, {(core.rss_mb() - before) * 1024 / watchers:.1f} KiB each")
        await load.run(requests // 50)
        told(f"after {requests // 50:,} more requests: {core.rss_mb():.0f} MiB")


async def opened(stack: AsyncExitStack, core: CoreProcess, count: int) -> None:
    await stack.enter_async_context(Watchers.on(core.address, count, reading=True))


async def timed(what: str, told: Callable[[str], None], work: Callable[[], Awaitable[None]]) -> None:
    begun = time.perf_counter()
    await work()
    told(f"{what}: {time.perf_counter() - begun:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--watchers", type=int, default=2_000)
    parser.add_argument("--stores", default="embedded,etcd")
    options = parser.parse_args()
    stores = options.stores.split(",")
    if len(stores) > 1:  # each with a client process of its own
        for store in stores:
            told = ["--requests", str(options.requests), "--watchers", str(options.watchers), "--stores", store]
            subprocess.run([sys.executable, __file__, *told], check=True)
        return
    for store in stores:
        print(f"\n{store}; {platform.platform()}, Python {platform.python_version()}", flush=True)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            settings: dict[str, Any] = {"store": "embedded", "data_dir": f"{folder}/data"}
            if store == "etcd":
                etcd = stack.enter_context(EtcdCluster(Path(folder)))
                machines = [endpoint.removeprefix("http://") for endpoint in etcd.endpoints]
                settings = {"store": "etcd", "etcd": {"machines": machines, "prefix": "/soak"}}
            core = CoreProcess(Path(folder), "core", settings)
            try:
                core.start()
                asyncio.run(soak(core, options.requests, options.watchers, lambda line: print(line, flush=True)))
            finally:
                core.close()


if __name__ == "__main__":
    main()
