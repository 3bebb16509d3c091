"""Random transactions, leases, compactions and watches: every backend against the memory store, which is the model."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eru.lib.world import real_world
from eru.model.errors import Compacted, LeaseLost
from eru.store.conformance import CompactableStore
from eru.store.contract import Change, Compare, Delete, Op, Put, Target, Watch, range_all
from eru.store.embedded import EmbeddedStore
from eru.store.etcd import EtcdSettings, EtcdStore
from eru.store.memory import MemoryStore
from support.etcd import EtcdCluster

NAMES = ["a", "a/b", "ab", "b", "ü"]
STEPS_MAX = 25

names = st.sampled_from(NAMES)
values = st.sampled_from([b"", b"1", b"2", b"\xff"])
leases = st.sampled_from([0, 0, 1, 2])
compares = st.one_of(
    st.tuples(names, st.sampled_from([Target.VERSION]), st.sampled_from(Op), st.integers(0, 3)),
    st.tuples(names, st.sampled_from([Target.MOD, Target.CREATE]), st.sampled_from(Op), st.integers(0, 12)),
    st.tuples(names, st.just(Target.VALUE), st.sampled_from(Op), values),
)
writes = st.one_of(st.tuples(st.just("put"), names, values, leases), st.tuples(st.just("delete"), names))
steps = st.one_of(
    st.tuples(
        st.just("txn"), st.lists(compares, max_size=2), st.lists(writes, max_size=4, unique_by=lambda write: write[1])
    ),
    st.tuples(st.just("txn"), st.just([]), st.lists(writes, min_size=1, max_size=4, unique_by=lambda write: write[1])),
    st.tuples(st.just("revoke"), st.sampled_from([1, 2])),
    st.tuples(st.just("grant"), st.sampled_from([1, 2])),
    st.tuples(st.just("page"), st.sampled_from(["", "a", "a/", "c"]), names, st.integers(1, 3), st.integers(0, 12)),
    st.tuples(st.just("many"), st.lists(names)),
    st.tuples(st.just("compact"), st.integers(0, 12)),
    st.tuples(st.just("history"), st.integers(1, 12)),
)


class Player:
    """Plays a script on one store; revisions are told from where the script began."""

    def __init__(self, store: CompactableStore, room: str) -> None:
        self.store = store
        self.room = room
        self.leases: dict[int, int] = {0: 0, 1: 999_999_999_999_991, 2: 999_999_999_999_992}
        self.start = 0

    async def play(self, script: list[tuple[Any, ...]]) -> list[object]:
        self.start = (await self.store.txn([], [Put(f"{self.room}start", b"")])).revision
        told: list[object] = []
        for step in script:
            try:
                told.append(await getattr(self, step[0])(*step[1:]))
            except (LeaseLost, Compacted, ValueError) as error:
                told.append(type(error).__name__)
        told.append([self.shown(item) for item in (await range_all(self.store, self.room))[0]])
        for lease in self.leases.values():
            if lease:
                await self.store.revoke(lease)
        return told

    def shown(self, item: Any) -> tuple[object, ...]:
        lease = next((name for name, id in self.leases.items() if id == item.lease), "old")
        created = item.create_revision - self.start if item.create_revision else None
        return (
            item.key.removeprefix(self.room),
            item.value,
            created,
            item.mod_revision - self.start,
            item.version,
            lease,
        )

    async def txn(self, conditions: list[Any], changes: list[Any]) -> object:
        wanted = [self.compare(*condition) for condition in conditions]
        result = await self.store.txn(wanted, [self.write(*change) for change in changes])
        return (result.succeeded, result.revision - self.start)

    def compare(self, name: str, target: Target, op: Op, operand: Any) -> Compare:
        if target in (Target.MOD, Target.CREATE) and operand:
            operand += self.start
        return Compare(self.room + name, target, op, operand)

    def write(self, kind: str, name: str, value: bytes = b"", lease: int = 0) -> Put | Delete:
        return Put(self.room + name, value, self.leases[lease]) if kind == "put" else Delete(self.room + name)

    async def grant(self, name: int) -> None:
        await self.store.revoke(self.leases[name])
        self.leases[name] = await self.store.grant(600)

    async def revoke(self, name: int) -> None:
        await self.store.revoke(self.leases[name])

    async def page(self, prefix: str, after: str, limit: int, back: int) -> object:
        newest = (await self.store.range(self.room, limit=1)).revision
        revision = max(newest - back, self.start) if back else 0
        page = await self.store.range(self.room + prefix, after=self.room + after, limit=limit, revision=revision)
        return ([self.shown(item) for item in page.items], page.revision - self.start, page.more)

    async def many(self, asked: list[str]) -> object:
        found = await self.store.get_many([self.room + name for name in asked])
        return sorted(self.shown(item) for item in found.values())

    async def compact(self, back: int) -> None:
        newest = (await self.store.range(self.room, limit=1)).revision
        await self.store.compact(max(newest - back, self.start))

    async def history(self, back: int) -> object:
        newest = (await self.store.range(self.room, limit=1)).revision
        watch = await self.store.watch(self.room, max(newest - back, self.start + 1))
        try:
            return await asyncio.wait_for(self.events(watch, newest), 10)
        finally:
            await watch.close()

    async def events(self, watch: Watch, newest: int) -> object:
        told = []
        if newest == self.start:
            return told
        async for batch in watch:
            told += [(event.change is Change.PUT, self.shown(event.item)) for event in batch.events]
            if batch.revision >= newest:
                break
        return told


rooms = iter(range(1_000_000))


async def play_on(store: CompactableStore, script: list[tuple[Any, ...]]) -> list[object]:
    return await Player(store, f"/model-{next(rooms)}/").play(script)


async def model(script: list[tuple[Any, ...]]) -> list[object]:
    store = MemoryStore(real_world())
    told = await play_on(store, script)
    await store.close()
    return told


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, max_size=STEPS_MAX))
def test_embedded_does_as_the_model(tmp_path: Path, script: list[tuple[Any, ...]]) -> None:
    async def both() -> tuple[list[object], list[object]]:
        store = await EmbeddedStore.open(tmp_path / "store", real_world())
        try:
            return await play_on(store, script), await model(script)
        finally:
            await store.close()

    told, expected = asyncio.run(both())
    assert told == expected


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.mark.etcd
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, max_size=STEPS_MAX))
def test_etcd_does_as_the_model(etcd: EtcdCluster, script: list[tuple[Any, ...]]) -> None:
    async def both() -> tuple[list[object], list[object]]:
        store = await EtcdStore.open(EtcdSettings(etcd.endpoints), real_world())
        try:
            return await play_on(store, script), await model(script)
        finally:
            await store.close()

    told, expected = asyncio.run(both())
    assert told == expected
