"""A core process keeps its size under mixed requests, beside streams nobody reads and many that are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.core_processes import CoreProcess
from support.mixed_load import Load, Watchers, filled

WARM, THIRD = 600, 900  # requests
GROWTH_MAX_MB = 8.0  # of the last third; 900 requests that each keep 10 KB would be 9 MB
WATCHERS = 300
WATCHER_MAX_KB = 120.0


@pytest.fixture
def core(tmp_path: Path) -> Iterator[CoreProcess]:
    settings = {"store": "embedded", "data_dir": str(tmp_path / "data")}
    process = CoreProcess(tmp_path, "core", settings)
    process.start()
    yield process
    process.close()


async def test_a_core_keeps_its_size(core: CoreProcess) -> None:
    async with Load.on(core.address) as load, Watchers.on(core.address, 5, reading=False):
        await filled(load.client)
        await load.run(WARM)
        sizes = []
        for _ in range(3):
            await load.run(THIRD)
            sizes.append(core.rss_mb())
    assert sizes[2] - sizes[1] < GROWTH_MAX_MB, sizes


async def test_many_watchers_cost_little_and_all_hear(core: CoreProcess) -> None:
    async with Load.on(core.address) as load:
        await filled(load.client)
        await load.run(100)
        before = core.rss_mb()
        async with Watchers.on(core.address, WATCHERS, reading=True) as watchers:
            async with asyncio.timeout(240):
                while watchers.received < WATCHERS * 10:
                    await load.run(10)
            assert (core.rss_mb() - before) * 1024 / WATCHERS < WATCHER_MAX_KB
            assert watchers.ended == 0
