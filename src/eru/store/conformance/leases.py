"""Leases: keys that go when nobody keeps them alive."""

from __future__ import annotations

import asyncio

from eru.model.errors import LeaseLost
from eru.store.conformance.trial import Trial, batches_until, check, raises
from eru.store.contract import (
    Change,
    Delete,
    Put,
    present,
    range_all,
)

LEASE_TTL_S = 2
EXPIRY_WAIT_S = 60.0  # etcd looks for expired leases every half second, and later when it is busy


@check
async def a_revoked_lease_takes_its_keys_along_in_one_revision(trial: Trial) -> None:
    store = trial.store
    lease = await store.grant(60)
    for name in ("b", "a", "c"):
        await trial.put(name, b"x", lease)
    await trial.put("c", b"x")  # not attached any more
    await trial.put("deleted", b"x", lease)
    await store.txn([], [Delete(trial.key("deleted"))])
    await trial.put("deleted", b"made again")
    revision = await trial.put("d", b"x")
    watch = await trial.watch(revision + 1)
    item = await store.get(trial.key("a"))
    assert item is not None
    assert item.lease == lease
    await store.revoke(lease)
    await store.revoke(lease)
    items, newest = await range_all(store, f"{trial.room}/")
    assert [item.key for item in items] == [trial.key("c"), trial.key("d"), trial.key("deleted")]
    (batch,) = await batches_until(watch, revision + 1)
    assert [(event.change, event.item.key) for event in batch.events] == [
        (Change.DELETE, trial.key("a")),
        (Change.DELETE, trial.key("b")),
    ]
    assert len({event.item.mod_revision for event in batch.events}) == 1
    assert newest >= batch.revision
    await watch.close()


@check
async def an_ended_lease_is_lost(trial: Trial) -> None:
    store = trial.store
    lease = await store.grant(60)
    assert await store.keep_alive(lease) == 60
    await store.revoke(lease)
    await raises(LeaseLost, store.keep_alive(lease))
    await raises(LeaseLost, store.txn([], [Put(trial.key("a"), b""), Put(trial.key("k"), b"", lease)]))
    await raises(LeaseLost, store.keep_alive(lease + 1))
    assert (await store.range(f"{trial.room}/")).items == []
    refused = await store.txn([present(trial.key("k"))], [Put(trial.key("k"), b"", lease)])
    assert not refused.succeeded  # the compares are judged first


@check
async def keys_vanish_when_nobody_keeps_their_lease_alive(trial: Trial) -> None:
    store = trial.store
    dies, lives = await store.grant(LEASE_TTL_S), await store.grant(LEASE_TTL_S)
    await trial.put("dies", b"", dies)
    await trial.put("dies too", b"", dies)
    revision = await trial.put("lives", b"", lives)
    watch = await trial.watch(revision + 1)
    batches = aiter(watch)

    async def beat() -> None:
        while True:
            await store.keep_alive(lives)
            await trial.world.clock.sleep(0.3)

    async with asyncio.TaskGroup() as group:
        heart = group.create_task(beat())
        async with asyncio.timeout(EXPIRY_WAIT_S):
            batch = await anext(batches)
        heart.cancel()
    assert [(event.change, event.item.key) for event in batch.events] == [
        (Change.DELETE, trial.key("dies")),
        (Change.DELETE, trial.key("dies too")),
    ]
    await raises(LeaseLost, store.keep_alive(dies))
    await raises(LeaseLost, store.txn([], [Put(trial.key("k"), b"", dies)]))
    assert await store.get(trial.key("lives")) is not None
    await watch.close()
    await store.revoke(lives)


@check
async def a_lease_with_many_keys_ends_as_one_batch(trial: Trial) -> None:
    store = trial.store
    lease = await store.grant(60)
    keys = [trial.key(f"{number:04}") for number in range(1_000)]
    for start in range(0, 1_000, 100):
        await store.txn([], [Put(key, b"x" * 1_000, lease) for key in keys[start : start + 100]])
    revision = await trial.put("z")
    watch = await trial.watch(revision + 1)
    await store.revoke(lease)
    (batch,) = await batches_until(watch, revision + 1)
    assert [event.item.key for event in batch.events] == keys
    await watch.close()
