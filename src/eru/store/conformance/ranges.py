"""Ranges: order, borders, pages, the past."""

from __future__ import annotations

from eru.lib.tasks import map_bounded
from eru.store.conformance.trial import Trial, check, raises
from eru.store.contract import (
    TXN_OPS_MAX,
    Delete,
    Put,
    TxnResult,
    range_all,
)

MANY_KEYS = 10_000


@check
async def a_prefix_ends_where_it_should(trial: Trial) -> None:
    names = ["a", "a/1", "a/2", "a0", "ab", "ab/1", "b"]
    await trial.store.txn([], [Put(trial.key(name), b"") for name in names])

    async def under(prefix: str, after: str = "") -> list[str]:
        page = await trial.store.range(trial.key(prefix), after=trial.key(after) if after else "")
        assert not page.more
        return [item.key.removeprefix(f"{trial.room}/") for item in page.items]

    assert await under("a/") == ["a/1", "a/2"]
    assert await under("a") == ["a", "a/1", "a/2", "a0", "ab", "ab/1"]
    assert await under("a/", after="a/1") == ["a/2"]
    assert await under("a/", after="a/2") == []
    assert await under("a/", after="a") == ["a/1", "a/2"]  # `after` may lie before the prefix
    assert await under("a", after="a") == ["a/1", "a/2", "a0", "ab", "ab/1"]
    assert await under("c") == []


@check
async def get_many_leaves_out_what_is_not_there(trial: Trial) -> None:
    keys = [trial.key(f"{number:03}") for number in range(300)]
    for start in range(0, 300, 100):
        await trial.store.txn([], [Put(key, key.encode()) for key in keys[start : start + 100 : 2]])
    found = await trial.store.get_many(keys)
    assert sorted(found) == keys[::2]
    assert all(item.value == key.encode() for key, item in found.items())
    assert await trial.store.get_many([]) == {}


@check
async def a_range_of_keys_only_has_no_values(trial: Trial) -> None:
    revision = await trial.put("k", b"value")
    page = await trial.store.range(f"{trial.room}/", keys_only=True)
    assert [(item.key, item.value, item.mod_revision) for item in page.items] == [(trial.key("k"), b"", revision)]


@check
async def pages_show_one_revision_while_others_write(trial: Trial) -> None:
    store, prefix = trial.store, f"{trial.room}/"
    for number in range(20):
        await trial.put(f"{number:02}", b"old")
    page = await store.range(prefix, limit=7)
    revision, items = page.revision, list(page.items)
    changes = 0
    while page.more:
        await trial.put(f"{changes:02}", b"new")  # behind
        await trial.put(f"{changes + 10:02}", b"new")  # ahead
        await trial.put(f"{changes + 10:02}", b"newer")
        await trial.put(f"{changes + 10:02}x", b"inserted")
        await store.txn([], [Delete(trial.key(f"{19 - changes}"))])
        await trial.put(f"{19 - changes}", b"again")
        await store.txn([], [Delete(trial.key(f"{18 - changes}"))])
        changes += 1
        page = await store.range(prefix, after=items[-1].key, limit=7, revision=revision)
        assert page.revision == revision
        items += page.items
    assert changes == 2
    assert [(item.key, item.value, item.version) for item in items] == [
        (trial.key(f"{number:02}"), b"old", 1) for number in range(20)
    ]
    now, newest = await range_all(store, prefix)
    assert newest > revision
    assert [item.key for item in now] != [item.key for item in items]


@check
async def the_future_cannot_be_read(trial: Trial) -> None:
    revision = await trial.put("k")
    await raises(ValueError, trial.store.range(f"{trial.room}/", revision=revision + 1_000_000))


@check
async def ten_thousand_keys_come_in_pages(trial: Trial) -> None:
    keys = [trial.key(f"{number:05}") for number in range(MANY_KEYS)]
    chunks = [keys[start : start + TXN_OPS_MAX] for start in range(0, MANY_KEYS, TXN_OPS_MAX)]

    async def write(chunk: list[str]) -> TxnResult:
        return await trial.store.txn([], [Put(key, key.encode()) for key in chunk])

    await map_bounded(chunks, write, 8)
    items, _ = await range_all(trial.store, f"{trial.room}/")
    assert [item.key for item in items] == keys
    assert all(item.value == item.key.encode() for item in items)
    page = await trial.store.range(f"{trial.room}/", after=keys[4_999], limit=2_500)
    assert [item.key for item in page.items] == keys[5_000:7_500]
    assert page.more
    page = await trial.store.range(f"{trial.room}/", after=keys[4_999], limit=5_000)
    assert (page.items[-1].key, page.more) == (keys[-1], False)
