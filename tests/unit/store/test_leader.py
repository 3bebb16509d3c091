"""Taking, losing and giving up a role."""

import asyncio

import pytest

from eru.lib.world import real_world
from eru.model.errors import LeaseLost
from eru.store.contract import Store
from eru.store.faulty import Fault, FaultKind, FaultyStore
from eru.store.keys import Keys
from eru.store.leader import Leadership
from eru.store.memory import MemoryStore

WORLD = real_world()


async def candidate(store: Store, core: str) -> tuple[Leadership, int]:
    lease = await store.grant(60)
    return Leadership(store, Keys(), "sweeper", core, lease, WORLD), lease


async def test_one_leads_and_the_next_takes_over_when_its_lease_ends() -> None:
    store = MemoryStore(WORLD)
    first, lease = await candidate(store, "c1")
    second, _ = await candidate(store, "c2")
    assert await first.try_take()
    assert await first.try_take()  # it still is
    assert not await second.try_take()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(second.take())
        group.create_task(first.wait_lost())
        await asyncio.sleep(0.01)
        assert (first.held, second.held) == (True, False)
        await store.revoke(lease)
    assert (first.held, second.held) == (False, True)
    await second.resign()
    with pytest.raises(LeaseLost):
        await first.try_take()
    await store.close()


async def test_resigning_frees_only_what_is_ones_own() -> None:
    store = MemoryStore(WORLD)
    first, _ = await candidate(store, "c1")
    second, _ = await candidate(store, "c2")
    assert await first.try_take()
    await second.resign()
    assert not await second.try_take()
    await first.resign()
    assert await second.try_take()
    assert not first.held
    await store.close()


async def test_a_lost_answer_does_not_hide_the_role() -> None:
    inner = MemoryStore(WORLD)
    store = FaultyStore(inner, lambda name: Fault(FaultKind.ANSWER_LOST) if name == "txn" else None, WORLD)
    claim, _ = await candidate(store, "c1")
    assert await claim.try_take()
    await inner.close()
