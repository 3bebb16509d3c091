"""A real etcd cluster that loses members, its quorum, its patience."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from eru.lib.world import real_world
from eru.model.errors import InvalidInput, LeaseLost, OutcomeUnknown, StoreError, StoreUnavailable
from eru.store.contract import Change, Put, absent, range_all
from eru.store.etcd import EtcdSettings, EtcdStore
from support.etcd import EtcdCluster, free_port

pytestmark = pytest.mark.etcd

WORLD = real_world()
CALL_ENDS_S = 60.0  # far more than any call's own limit here, for a busy machine


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path, size=3) as made:
        yield made


@pytest.fixture
async def store(cluster: EtcdCluster) -> AsyncIterator[EtcdStore]:
    made = await EtcdStore.open(EtcdSettings(cluster.endpoints), WORLD)
    yield made
    await made.close()


async def test_no_acknowledged_write_is_lost_when_the_leader_is_killed(cluster: EtcdCluster, store: EtcdStore) -> None:
    leader = cluster.leader()
    # Start with the leader, so that reads, writes, the lease and the watch all lose their connection.
    endpoints = cluster.endpoints[leader:] + cluster.endpoints[:leader]
    writer = await EtcdStore.open(EtcdSettings(endpoints), WORLD)
    lease = await writer.grant(60)
    start = (await writer.txn([], [Put("/w/start", b"", lease)])).revision
    watch = await writer.watch("/w/", start + 1)
    acked: dict[bytes, int] = {}
    unknown: set[bytes] = set()
    stop = asyncio.Event()

    async def write(worker: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = f"{worker}-{number}".encode()
            try:
                result = await writer.txn([absent(f"/w/{worker}/{number}")], [Put(f"/w/{worker}/{number}", value)])
                assert result.succeeded
                acked[value] = result.revision
                assert await writer.keep_alive(lease) == 60
            except OutcomeUnknown:
                unknown.add(value)
            except StoreUnavailable:
                continue  # certainly not done: it must not turn up below

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(write(worker)) for worker in range(4)]
        await asyncio.sleep(0.3)
        before = len(acked)
        cluster.kill(leader)
        async with asyncio.timeout(60):
            while max(acked.values()) < start + before + 200:  # noqa: ASYNC110 - the workers know nothing of it
                await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*workers)
    last = max(acked.values())
    told: dict[bytes, int] = {}
    async with asyncio.timeout(60):
        async for batch in watch:
            for event in batch.events:
                assert event.change is Change.PUT
                assert event.item.value not in told
                told[event.item.value] = event.item.mod_revision
            if batch.revision >= last:
                break
    assert {value: told.get(value) for value in acked} == acked
    assert set(told) - set(acked) <= unknown  # what came without an answer
    assert list(told.values()) == sorted(told.values())
    stored, _ = await range_all(store, "/w/")
    assert {item.value for item in stored} >= set(acked)
    await writer.revoke(lease)
    await writer.close()


async def test_without_a_quorum_every_call_ends_in_time_and_says_so(cluster: EtcdCluster) -> None:
    settings = EtcdSettings(cluster.endpoints, connect_timeout_s=0.5, request_timeout_s=2.0, watch_timeout_s=2.0)
    store = await EtcdStore.open(settings, WORLD)
    lease, other = await store.grant(60), await store.grant(60)
    revision = (await store.txn([], [Put("/k", b"1")])).revision
    watch = await store.watch("/", revision + 1)
    cluster.kill(0)
    cluster.kill(1)
    await asyncio.sleep(0.1)  # `kill` blocks: the loop has not heard yet that connections have ended

    async def ends(work: Awaitable[object]) -> BaseException:
        async with asyncio.timeout(CALL_ENDS_S):
            with pytest.raises((StoreUnavailable, OutcomeUnknown)) as caught:
                await work
        return caught.value

    calls = {
        "get": store.get("/k"),
        "get_many": store.get_many(["/k", "/l"]),
        "range": store.range("/"),
        "txn": store.txn([absent("/n")], [Put("/n", b"")]),
        "grant": store.grant(5),
        "revoke": store.revoke(other),
        "compact": store.compact(revision),
        "progress": watch.request_progress(),
        "watch": anext(aiter(watch)),
    }
    errors = dict(zip(calls, await asyncio.gather(*(ends(work) for work in calls.values())), strict=True))
    # By now the last member knows that it does not lead any more; a leader alone still renews leases for a while.
    errors["keep_alive"] = await ends(store.keep_alive(lease))
    for name, error in errors.items():
        assert isinstance(error, OutcomeUnknown) <= (name == "txn"), (name, error)
        assert cluster.endpoints[2].removeprefix("http://") in str(error), (name, error)
    cluster.start(0)  # two of three: everything works again with the same store
    async with asyncio.timeout(60):
        while True:
            try:
                await store.txn([], [Put("/k", b"2")])
                break
            except (StoreUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.1)
        values = []
        async for batch in watch:
            values += [event.item.value for event in batch.events if event.item.key == "/k"]
            if values[-1:] == [b"2"]:
                break
    assert await store.keep_alive(lease) == 60
    await store.close()


async def test_a_member_that_hangs_is_left_for_another(cluster: EtcdCluster) -> None:
    follower = (cluster.leader() + 1) % 3
    endpoints = cluster.endpoints[follower:] + cluster.endpoints[:follower]
    store = await EtcdStore.open(EtcdSettings(endpoints, request_timeout_s=10.0), WORLD)
    await store.txn([], [Put("/k", b"1")])
    cluster.pause(follower)
    try:
        item = await store.get("/k")  # within its request timeout, or it raises
        assert item is not None
        assert (await store.txn([], [Put("/k", b"2")])).succeeded
        with pytest.raises(LeaseLost):
            await store.keep_alive(12345)
    finally:
        cluster.resume(follower)
    await store.close()


async def test_a_watch_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        store = await EtcdStore.open(EtcdSettings(cluster.endpoints), WORLD)
        watch = await store.watch("/", 2)
        batches = aiter(watch)
        for number in range(2):
            await store.txn([], [Put("/k", b"%d" % (2 * number))])
            async with asyncio.timeout(60):
                first = await anext(batches)
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.05)
            cluster.kill(0)
            cluster.start(0)
            await asyncio.sleep(0.1)  # both block: the loop has not heard yet that the connection has ended
            await store.txn([], [Put("/k", b"%d" % (2 * number + 1))])
            async with asyncio.timeout(60):
                second = await waiting
            told = [event.item.value for batch in (first, second) for event in batch.events]
            assert told == [b"%d" % (2 * number), b"%d" % (2 * number + 1)]
        await store.close()


async def test_nothing_sent_is_never_called_unknown(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    settings = EtcdSettings(tuple(f"127.0.0.1:{port}" for port in ports), request_timeout_s=0.5)
    with pytest.raises(StoreUnavailable) as caught:
        await EtcdStore.open(settings, WORLD)
    assert all(f"127.0.0.1:{port}: Connection refused" in str(caught.value) for port in ports)
    store = EtcdStore(settings, WORLD)
    with pytest.raises(StoreUnavailable):
        await store.txn([], [Put("/k", b"")])
    await store.close()


async def fill(store: EtcdStore) -> None:
    for number in range(20):
        await store.txn([], [Put(f"/k/{number}", b"x" * 900_000)])


async def test_a_full_etcd_says_what_to_do(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, flags=["--quota-backend-bytes", str(4 * 1024 * 1024)]) as cluster:
        store = await EtcdStore.open(EtcdSettings(cluster.endpoints), WORLD)
        with pytest.raises(StoreUnavailable, match="is full: raise its --quota-backend-bytes"):
            await fill(store)
        assert await store.get("/k/0") is not None
        await store.close()


async def test_large_pages_come_in_smaller_parts(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        store = await EtcdStore.open(EtcdSettings(cluster.endpoints, message_bytes_max=1_000_000), WORLD)
        for number in range(30):
            await store.txn([], [Put(f"/k/{number:02}", b"x" * 100_000)])
        items, _ = await range_all(store, "/k/")
        assert [item.key for item in items] == [f"/k/{number:02}" for number in range(30)]
        await store.close()


async def test_close_ends_calls_and_watches(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        store = await EtcdStore.open(EtcdSettings(cluster.endpoints), WORLD)
        watch = await store.watch("/", 1)
        reading = asyncio.ensure_future(anext(aiter(watch)))
        await asyncio.sleep(0.1)
        lease = await store.grant(60)
        cluster.pause(0)
        calls = [store.get("/k"), store.txn([], [Put("/k", b"")]), store.keep_alive(lease)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await store.close()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [StoreUnavailable, OutcomeUnknown, StoreUnavailable]
            with pytest.raises(StoreUnavailable, match="closed"):
                await reading
            with pytest.raises(StoreUnavailable, match="closed"):
                await store.get("/k")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EtcdSettings(()), "etcd endpoints are empty"),
        (EtcdSettings(("nonsense",)), "'nonsense' is not host:port"),
        (EtcdSettings(("http://a:1",), ca_file=Path("/nowhere")), "mix http:// with TLS"),
        (EtcdSettings(("https://a:1",), ca_file=Path("/nowhere/ca.pem")), "CA certificate /nowhere/ca.pem cannot be"),
        (EtcdSettings(("https://a:1",), cert_file=Path("/c")), "certificate and key belong together"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(settings: EtcdSettings, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        await EtcdStore.open(settings, WORLD)


async def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(EtcdSettings(("a:1",), username="u", password="secret"))
    assert issubclass(StoreUnavailable, StoreError)
