"""Reads of the store's revision are shared by requests of the same moment, and never older than the request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eru.core.fleet import Fleet
from eru.core.settings import CoreSettings
from eru.lib.world import real_world
from eru.model.errors import StoreUnavailable
from eru.resource.registry import builtin_kinds
from eru.store.contract import Page, Put
from eru.store.keys import Keys
from eru.store.memory import MemoryStore


class SlowStore(MemoryStore):
    """Reads its revision at once, and answers a moment later."""

    reads = 0
    failing = 0

    async def range(self, prefix: str, **options: Any) -> Page:
        page = await super().range(prefix, **options)
        self.reads += 1
        await asyncio.sleep(0.01)
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("not now")
        return page


async def started() -> tuple[Fleet, SlowStore, asyncio.Task[None]]:
    world, keys = real_world(), Keys()
    store = SlowStore(world)
    fleet = Fleet(world, store, keys, CoreSettings(), builtin_kinds())
    await fleet.start()
    store.reads = 0
    return fleet, store, asyncio.create_task(fleet.follow())


async def test_many_share_two_reads() -> None:
    fleet, store, following = await started()
    revisions = await asyncio.gather(*(fleet.fresh() for _ in range(32)))
    assert len(set(revisions)) == 1
    assert store.reads == 2  # that of the first, and one for all who came meanwhile
    following.cancel()


async def test_a_read_that_was_begun_before_is_not_enough() -> None:
    fleet, store, following = await started()
    early = asyncio.create_task(fleet.fresh())
    await asyncio.sleep(0.001)
    written = await store.txn([], [Put(fleet.keys.pod("p"), b"{}")])
    late = await fleet.fresh()
    assert late >= written.revision > await early
    assert "p" in fleet.view.pods
    following.cancel()


async def test_one_who_fails_or_leaves_does_not_take_the_others_along() -> None:
    fleet, store, following = await started()
    store.failing = 1
    first = asyncio.create_task(fleet.fresh())
    await asyncio.sleep(0.001)
    second, third = asyncio.create_task(fleet.fresh()), asyncio.create_task(fleet.fresh())
    with pytest.raises(StoreUnavailable):
        await first
    await asyncio.sleep(0.001)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await asyncio.wait_for(third, 60) == 1
    following.cancel()
