"""Watches: every change once, in order, whole; or a clear end."""

from __future__ import annotations

import asyncio

from eru.lib.tasks import map_bounded
from eru.model.errors import Compacted
from eru.store.conformance.trial import EVENT_WAIT_S, Trial, batches_until, check, events_until, raises
from eru.store.contract import (
    Change,
    Delete,
    Event,
    Put,
    range_all,
)


@check
async def a_watch_tells_the_past_in_order_and_whole(trial: Trial) -> None:
    store = trial.store
    first = await trial.put("a", b"1")
    second = (await store.txn([], [Put(trial.key("b"), b"2"), Put(trial.key("a"), b"3")])).revision
    third = (await store.txn([], [Delete(trial.key("a"))])).revision
    watch = await trial.watch(first)
    events = await events_until(watch, third)
    told = [(event.change, event.item.key, event.item.value, event.item.mod_revision) for event in events]
    assert told == [
        (Change.PUT, trial.key("a"), b"1", first),
        (Change.PUT, trial.key("b"), b"2", second),
        (Change.PUT, trial.key("a"), b"3", second),
        (Change.DELETE, trial.key("a"), b"", third),
    ]
    assert (events[2].item.create_revision, events[2].item.version) == (first, 2)
    await watch.close()
    resumed = await trial.watch(second + 1)
    assert [event.change for event in await events_until(resumed, third)] == [Change.DELETE]
    await resumed.close()


@check
async def revisions_come_whole_however_much_there_is(trial: Trial) -> None:
    written: list[int] = []
    for turn in range(40):
        puts = [Put(trial.key(f"{number:02}"), b"%02d" % turn * 700) for number in range(100)]
        written.append((await trial.store.txn([], puts)).revision)
    watch = await trial.watch(written[0])
    batches = await batches_until(watch, written[-1])
    told = [(event.item.mod_revision, event.item.key) for batch in batches for event in batch.events]
    assert told == [(revision, trial.key(f"{number:02}")) for revision in written for number in range(100)]
    ends = [batch.events[-1].item.key for batch in batches if batch.events]
    assert set(ends) == {trial.key("99")}
    await watch.close()


@check
async def a_watch_hears_of_its_prefix_only(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.store.watch(trial.key("a/"), revision + 1)
    for name in ("a", "a/1", "a0", "ab/1", "b", "a/2"):
        last = await trial.put(name)
    events = await events_until(watch, last)
    assert [event.item.key for event in events] == [trial.key("a/1"), trial.key("a/2")]
    await watch.close()


@check
async def a_watch_waits_for_what_comes(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 1)
    waiting = asyncio.gather(batches_until(watch, revision + 1))
    await trial.world.clock.sleep(0.05)
    assert not waiting.done()
    last = await trial.put("k", b"news")
    (batches,) = await waiting
    assert [(batch.revision, batch.events[0].item.value) for batch in batches] == [(last, b"news")]
    await watch.close()


@check
async def a_watch_may_start_in_the_future(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 3)
    for number in range(5):
        last = await trial.put("k", b"%d" % number)
    events = await events_until(watch, last)
    assert [event.item.mod_revision for event in events] == list(range(revision + 3, last + 1))
    await watch.close()


@check
async def progress_comes_on_request_and_after_all_events(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 1)
    last = revision
    for number in range(200):
        last = await trial.put(f"{number:03}")
    elsewhere = (await trial.store.txn([], [Put(f"{trial.room}-elsewhere", b"")])).revision
    assert elsewhere > last
    await watch.request_progress()
    batches = await batches_until(watch, elsewhere)
    told = [event.item.key for batch in batches for event in batch.events]
    assert told == [trial.key(f"{number:03}") for number in range(200)]
    assert [batch.revision for batch in batches] == sorted({batch.revision for batch in batches})
    after = await trial.put("after")
    assert [event.item.key for event in await events_until(watch, after)] == [trial.key("after")]
    await watch.close()


@check
async def asking_for_progress_leaves_nothing_to_see(trial: Trial) -> None:
    revision = await trial.put("k")
    prefix = f"{trial.room}/"
    watch = await trial.store.watch(prefix, revision)
    await watch.request_progress()
    assert [event.item.key for event in await events_until(watch, revision)] == [trial.key("k")]
    items, _ = await range_all(trial.store, prefix)
    assert [item.key for item in items] == [trial.key("k")]
    page = await trial.store.range(prefix, limit=1)
    assert [item.key for item in page.items] == [trial.key("k")]
    assert (await trial.store.range(trial.room, limit=1)).items == page.items
    await watch.close()


@check
async def a_slow_watch_misses_nothing(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 1)
    batches = aiter(watch)

    async def write(number: int) -> int:
        return await trial.put(f"{number % 7}", b"%d" % number)

    revisions: list[int] = []
    events: list[Event] = []
    for start in range(0, 3_000, 500):
        revisions += await map_bounded(range(start, start + 500), write, 16)
        batch = await anext(batches)
        events += batch.events
    if batch.revision < max(revisions):
        events += await events_until(watch, max(revisions))
    assert [event.item.mod_revision for event in events] == sorted(revisions)
    assert sorted(int(event.item.value) for event in events) == list(range(3_000))
    await watch.close()


@check
async def an_impatient_reader_loses_nothing(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 1)
    batches = aiter(watch)
    seen: list[bytes] = []
    for number in range(10):
        try:
            async with asyncio.timeout(0.02 * (number % 3)):
                seen += [event.item.value for event in (await anext(batches)).events]
        except TimeoutError:
            pass
        last = await trial.put("k", b"%d" % number)
    seen += [event.item.value for event in await events_until(watch, last)] if len(seen) < 10 else []
    assert seen == [b"%d" % number for number in range(10)]
    await watch.close()


@check
async def close_ends_a_watch_also_while_it_waits(trial: Trial) -> None:
    revision = await trial.put("start")
    watch = await trial.watch(revision + 1)

    async def read() -> int:
        return len([batch async for batch in watch])

    waiting = asyncio.gather(read())
    await trial.world.clock.sleep(0.05)
    await watch.close()
    async with asyncio.timeout(EVENT_WAIT_S):
        (count,) = await waiting
        assert count == 0
        assert await read() == 0


@check
async def compacted_history_is_gone_and_says_so(trial: Trial) -> None:
    store = trial.store
    first = await trial.put("k", b"1")
    await trial.put("gone")
    await store.txn([], [Delete(trial.key("gone"))])
    for number in range(2, 10):
        last = await trial.put("k", b"%d" % number)
    await store.compact(last)
    await store.compact(last)
    watch = await trial.watch(first)
    async with asyncio.timeout(EVENT_WAIT_S):
        await raises(Compacted, anext(aiter(watch)))
    await raises(Compacted, store.range(f"{trial.room}/", revision=first))
    page = await store.range(f"{trial.room}/", revision=last)
    assert [(item.key, item.value, item.version) for item in page.items] == [(trial.key("k"), b"9", 9)]
    watch = await trial.watch(last + 1)
    after = await trial.put("k", b"10")
    assert [event.item.value for event in await events_until(watch, after)] == [b"10"]
    await watch.close()
