"""Who follows statuses misses nothing when the store has forgotten what happened meanwhile: real compactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eru.core.app import Core
from eru.core.fanout import Changed
from eru.core.settings import CoreSettings
from eru.engine.fake import FakeCluster
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool
from eru.lib.world import real_world
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Workload, WorkloadStatus
from eru.resource.registry import builtin_kinds
from eru.store.conformance import CompactableStore
from eru.store.contract import Delete, Put
from eru.store.embedded import EmbeddedStore
from eru.store.etcd import EtcdSettings, EtcdStore
from eru.store.faulty import Fault, FaultKind, FaultyStore
from eru.store.keys import Keys
from eru.store.memory import MemoryStore
from support.etcd import EtcdCluster


@dataclass
class Place:
    """A core whose watch can be held up, beside a store that goes on."""

    store: CompactableStore
    core: Core
    keys: Keys
    shut: list[bool]
    told: list[Changed] = field(default_factory=list)

    def key(self, number: int) -> str:
        return self.keys.status("app", "web", "n1", f"id{number}")

    async def says(self, number: int, *, running: bool = True) -> int:
        status = WorkloadStatus(id=f"id{number}", running=running)
        return (await self.store.txn([], [Put(self.key(number), status.encode())])).revision

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.told) < count:  # noqa: ASYNC110 - looked at from outside
                await asyncio.sleep(0.01)

    def states(self) -> list[tuple[str, bool | None]]:
        return [(change.id, change.status.running if change.status else None) for change in self.told]


@pytest.fixture(params=["memory", "embedded", pytest.param("etcd", marks=pytest.mark.etcd)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    world, cluster = real_world(), None
    made: MemoryStore | EmbeddedStore | EtcdStore
    if request.param == "memory":
        made = MemoryStore(world)
    elif request.param == "embedded":
        made = await EmbeddedStore.open(tmp_path / "store", world)
    else:
        cluster = EtcdCluster(tmp_path)
        made = await EtcdStore.open(EtcdSettings(cluster.__enter__().endpoints), world)
    shut = [False]

    def faults(verb: str) -> Fault | None:
        return Fault(FaultKind.FAIL_BEFORE, 0.02) if shut[0] and verb.startswith("watch") else None

    view = FaultyStore(made, faults, world)
    pool = EnginePool(world, engine_factories(fakes=FakeCluster()))
    keys = Keys("/gap")
    settings = CoreSettings(watch_retry_s=0.05)
    core = Core(world, view, keys, pool, builtin_kinds(), settings)
    await core.start()
    yield Place(made, core, keys, shut)
    await core.stop()
    await pool.close()
    await view.close()
    await made.close()
    if cluster is not None:
        cluster.__exit__(None, None, None)


async def test_what_changed_and_what_vanished_behind_a_compaction_is_told_once(place: Place) -> None:
    for number in range(4):
        workload = Workload(id=f"id{number}", name=f"app_web_{number}aaaaa", podname="p", nodename="n1")
        await place.store.txn([], [Put(place.keys.workload(workload.id), workload.encode())])
        if number < 3:
            revision = await place.says(number)
    await place.core.fleet.caught_up(revision)

    async def follow() -> None:
        with place.core.fanout.subscribe(WorkloadFilter(appname="app")) as reader:
            async for burst in reader:
                place.told.extend(burst.changes)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await place.says(0, running=False)
    await place.until(1)
    place.shut[0] = True
    await place.says(1, running=False)  # ends the watch; it is told after the gap
    await place.store.txn([], [Delete(place.key(0)), Delete(place.keys.workload("id0"))])
    await place.says(3, running=False)
    last = await place.says(3)
    await place.store.compact(last)
    rebuilds = place.core.fleet.rebuilds
    place.shut[0] = False
    await place.until(4)
    assert place.core.fleet.rebuilds == rebuilds + 1, "the history was still there: nothing was tried"
    assert place.states()[0] == ("id0", False)
    assert sorted(place.states()[1:]) == [("id0", None), ("id1", False), ("id3", True)]
    await place.says(2, running=False)
    await place.until(5)
    await asyncio.sleep(0.1)
    assert place.states()[4:] == [("id2", False)]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
