"""Reports into the store, and bursts of them out to many readers."""

from __future__ import annotations

import asyncio

import pytest

from eru.core.fanout import LAG_MAX, Burst, Changed, Reader
from eru.core.ops.status import set_statuses
from eru.model.deploy import Entrypoint
from eru.model.errors import NotFound, Refused, StoreUnavailable
from eru.model.requests import WorkloadFilter
from eru.model.workloads import Hook, WorkloadStatus
from eru.store.contract import Put


def up(id: str, **more) -> WorkloadStatus:
    return WorkloadStatus(id=id, running=True, **more)


async def made(lab, count: int) -> list[str]:
    await lab.add_nodes("n1", memory=8 << 30)
    return [one.id for one in await lab.deploy(count)]


async def stored(lab, id: str) -> WorkloadStatus | None:
    item = await lab.store.get(lab.keys.status("app", "web", "n1", id))
    return WorkloadStatus.decode(item.value) if item else None


async def test_reports_of_many_callers_share_transactions(lab) -> None:
    ids = await made(lab, 20)
    before = lab.core.reports.transactions
    await asyncio.gather(*(set_statuses(lab.core, [up(id)]) for id in ids))
    assert lab.core.reports.transactions - before <= 2
    for id in ids:
        assert (await stored(lab, id)).running


async def test_large_reports_do_not_share(lab) -> None:
    ids = await made(lab, 8)
    await asyncio.gather(*(set_statuses(lab.core, [up(id, extension=b"x" * (512 << 10))]) for id in ids))
    for id in ids:
        assert len((await stored(lab, id)).extension) == 512 << 10


async def test_the_last_report_of_a_workload_counts_and_everybody_is_answered(lab) -> None:
    [id] = await made(lab, 1)
    reports = [set_statuses(lab.core, [up(id, extension=str(number).encode())]) for number in range(50)]
    await asyncio.gather(*reports)
    assert (await stored(lab, id)).extension == b"49"


async def test_what_somebody_else_wrote_is_seen_before_it_is_overwritten(lab) -> None:
    """What this core remembers of a status may be old; a report of the same as remembered still counts."""
    [id] = await made(lab, 1)
    await set_statuses(lab.core, [up(id)])
    key = lab.keys.status("app", "web", "n1", id)
    await lab.store.txn([], [Put(key, WorkloadStatus(id=id).encode())])
    await set_statuses(lab.core, [up(id)])
    assert (await stored(lab, id)).running


async def test_a_removed_workload_does_not_hold_back_the_others(lab) -> None:
    ids = await made(lab, 3)
    await set_statuses(lab.core, [up(id) for id in ids])
    [gone] = [one for one in await lab.workloads() if one.id == ids[1]]
    await lab.store.txn([], lab.core.ledger._workload_out(gone))
    later = [up(id, healthy=True) for id in ids]
    answers = await asyncio.gather(*(set_statuses(lab.core, [one]) for one in later), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), NotFound, type(None)]
    assert await stored(lab, ids[1]) is None
    assert (await stored(lab, ids[2])).healthy


async def test_a_report_during_the_hooks_of_a_deploy_is_not_lost(lab) -> None:
    """Agents see a start at once, and some tell it only once; the record comes after the hooks."""
    await lab.add_nodes("n1", knobs="?exec_ms=2500")
    entrypoint = Entrypoint(name="web", commands=["serve"], hook=Hook(after_start=["echo warm"]))
    deploying = asyncio.create_task(lab.deploy(1, entrypoint=entrypoint))
    await lab.until(lambda: bool(lab.fakes.containers()))
    [id] = lab.fakes.containers()
    place = {"appname": "app", "entrypoint": "web", "nodename": "n1"}
    await set_statuses(lab.core, [up(id, **place)])
    await set_statuses(lab.core, [up(id, healthy=True, **place)])
    for wrong in ({}, {**place, "entrypoint": "other"}, {**place, "nodename": "n2"}):
        with pytest.raises(NotFound):
            await set_statuses(lab.core, [up("never-made", **wrong)])
    await deploying

    async def told() -> bool:
        status = await stored(lab, id)
        return status is not None and status.healthy

    await lab.until(told)
    assert not len(lab.core.reports.early)


async def test_an_early_report_of_an_instance_that_fails_is_forgotten(lab) -> None:
    await lab.add_nodes("n1", knobs="?exec_ms=2500")
    entrypoint = Entrypoint(name="web", commands=["serve"], hook=Hook(after_start=["false"], force=True))
    deploying = asyncio.create_task(lab.deploy(1, entrypoint=entrypoint))
    await lab.until(lambda: bool(lab.fakes.containers()))
    [id] = lab.fakes.containers()
    await set_statuses(lab.core, [up(id, appname="app", entrypoint="web", nodename="n1")])
    [failed] = await deploying
    assert failed.error
    await lab.until(lambda: not len(lab.core.reports.early))
    assert await stored(lab, id) is None


async def test_a_core_that_stops_answers_those_who_wait(lab) -> None:
    [id] = await made(lab, 1)
    core = await lab.add_core()
    waiting = asyncio.create_task(set_statuses(core, [up(id)]))
    await asyncio.sleep(0)
    await core.stop()
    with pytest.raises(StoreUnavailable, match="stopping"):
        await waiting
    with pytest.raises(StoreUnavailable, match="stopping"):
        await set_statuses(core, [up(id)])


async def test_readers_share_what_one_of_them_made(lab) -> None:
    ids = await made(lab, 2)
    with (
        lab.core.fanout.subscribe(WorkloadFilter()) as one,
        lab.core.fanout.subscribe(WorkloadFilter()) as two,
        lab.core.fanout.subscribe(WorkloadFilter(labels={"a": "b"})) as nothing,
    ):
        await set_statuses(lab.core, [up(id) for id in ids])
        first, second = await anext(aiter(one)), await anext(aiter(two))
        assert first is second
        assert {change.id for change in first.changes} == set(ids)
        assert all(change.workload for change in first.changes)
        nothing.end()
        assert [burst async for burst in nothing] == []
    assert not lab.core.fanout.followed


async def test_readers_by_label_hear_of_the_end_too(lab) -> None:
    await lab.add_nodes("n1")
    [mine] = await lab.deploy(1, labels={"a": "b"})
    with lab.core.fanout.subscribe(WorkloadFilter(labels={"a": "b"})) as reader:
        await set_statuses(lab.core, [up(mine.id)])
        bursts = aiter(reader)
        [there] = (await anext(bursts)).changes
        assert there.workload
        [record] = await lab.workloads()
        await lab.store.txn([], lab.core.ledger._workload_out(record))
        [gone] = (await anext(bursts)).changes
        assert (gone.id, gone.status, gone.workload) == (mine.id, None, None)
        assert "does not exist" in gone.error


def changed(id: str, revision: int) -> Changed:
    return Changed(id, revision, WorkloadStatus(id=id))


async def read(reader: Reader) -> list[tuple[str, int]]:
    return [(change.id, change.revision) async for burst in reader for change in burst.changes]


def burst(*changes: Changed) -> Burst:
    return Burst(changes)


async def test_a_slow_reader_gets_the_newest_of_each(lab) -> None:
    reader = Reader(10)
    total = 3 * LAG_MAX
    for revision in range(total):
        reader.offer(burst(changed(f"w{revision % 5}", revision)))
    reader.end()
    got = await read(reader)
    assert len(got) <= LAG_MAX + 5
    assert [revision for _, revision in got] == sorted(revision for _, revision in got)
    assert dict(got) == {f"w{number}": total - 5 + number for number in range(5)}
    assert reader.skipped == total - len(got)


async def test_a_reader_that_misses_too_many_workloads_is_cut_off(lab) -> None:
    reader = Reader(10)
    for revision in range(LAG_MAX + 1):
        reader.offer(burst(changed(f"w{revision}", revision)))
    with pytest.raises(Refused, match="more than 10 workloads"):
        await read(reader)
