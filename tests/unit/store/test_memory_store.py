"""What is particular to the memory store; the rest is in tests/contract/store."""

import asyncio

import pytest

from eru.lib.world import seeded_world
from eru.model.errors import Compacted, LeaseLost, OutcomeUnknown, StoreUnavailable
from eru.store.contract import Change, Put, absent
from eru.store.faulty import Fault, FaultKind, FaultyStore
from eru.store.memory import MemoryStore


class ManualClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def now_ns(self) -> int:
        return int(self.at * 1e9)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        until = self.at + seconds
        while self.at < until:  # noqa: ASYNC110 - the time is set by the test
            await asyncio.sleep(0)


async def test_a_lease_ends_by_the_clock_of_the_world_and_watches_see_it() -> None:
    clock = ManualClock()
    store = MemoryStore(seeded_world(1, clock))
    lease = await store.grant(10)
    await store.txn([], [Put("/b", b"2", lease), Put("/a", b"1", lease)])
    watch = await store.watch("/", 3)
    clock.at = 9.9
    assert await store.keep_alive(lease) == 10
    clock.at = 19.8
    assert await store.get("/a") is not None
    clock.at = 19.95
    batch = await asyncio.wait_for(anext(aiter(watch)), 60)  # nobody calls the store: its own timer does it
    assert [(event.change, event.item.key, event.item.mod_revision) for event in batch.events] == [
        (Change.DELETE, "/a", 3),
        (Change.DELETE, "/b", 3),
    ]
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)
    await store.close()


async def test_history_is_bounded_and_a_late_watch_is_told() -> None:
    store = MemoryStore(seeded_world(1), history_revisions=10)
    for number in range(100):
        await store.txn([], [Put("/k", b"%d" % number)])
    with pytest.raises(Compacted):
        await anext(aiter(await store.watch("/", 2)))
    with pytest.raises(Compacted):
        await store.range("/", revision=50)
    batch = await anext(aiter(await store.watch("/", 95)))
    assert [event.item.mod_revision for event in batch.events] == [95, 96, 97, 98, 99, 100, 101]
    await store.close()


async def test_the_same_seed_gives_the_same_lease_ids() -> None:
    first, second = MemoryStore(seeded_world(7)), MemoryStore(seeded_world(7))
    assert [await first.grant(5) for _ in range(3)] == [await second.grant(5) for _ in range(3)]
    await first.close()
    await second.close()


async def test_a_closed_store_says_so() -> None:
    store = MemoryStore(seeded_world(1))
    watch = await store.watch("/", 1)
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("/a")
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(aiter(watch))


@pytest.mark.parametrize(
    ("kind", "error", "done"),
    [
        (FaultKind.FAIL_BEFORE, StoreUnavailable, False),
        (FaultKind.REQUEST_LOST, OutcomeUnknown, False),
        (FaultKind.ANSWER_LOST, OutcomeUnknown, True),
        (FaultKind.DONE_LATE, OutcomeUnknown, True),
        (FaultKind.CRASH_BEFORE, SystemExit, False),
        (FaultKind.CRASH_AFTER, SystemExit, True),
    ],
)
async def test_a_fault_strikes_before_or_after_the_effect(
    kind: FaultKind, error: type[BaseException], done: bool
) -> None:
    world = seeded_world(1)
    inner = MemoryStore(world)
    crash = SystemExit("crash")
    store = FaultyStore(inner, lambda name: Fault(kind, crash=crash) if name == "txn" else None, world)
    with pytest.raises(error):
        await store.txn([absent("/a")], [Put("/a", b"")])
    for _ in range(3):
        await asyncio.sleep(0)
    assert (await inner.get("/a") is not None) == done
    await store.close()
    assert (await inner.get("/a") is not None) == done  # the shared store is still open
    await inner.close()


async def test_injected_lease_loss_and_watch_gap() -> None:
    world = seeded_world(1)
    inner = MemoryStore(world)
    planned = {"keep_alive": Fault(FaultKind.LEASE_LOST), "watch.next": Fault(FaultKind.WATCH_GAP)}
    store = FaultyStore(inner, lambda name: planned.get(name), world)
    lease = await store.grant(10)
    await store.txn([], [Put("/a", b"", lease)])
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)
    assert await store.get("/a") is None
    with pytest.raises(Compacted):
        await anext(aiter(await store.watch("/", 1)))
    await inner.close()
