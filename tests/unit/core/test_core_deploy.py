"""Deploy: what it makes, what it says, and what it leaves when it fails."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from eru.core.ledger import RESERVE_MAX
from eru.core.ops.capacity import capacity, dry_run
from eru.core.ops.deploy import deploy
from eru.model.deploy import Entrypoint, FileToSend, NodeFilter, Strategy
from eru.model.errors import Conflict, InvalidInput, NoCapacity, OutcomeUnknown, Refused, StoreUnavailable
from eru.model.refusals import Reason
from eru.model.workloads import Hook
from eru.store.memory import MemoryStore

MIB = 1 << 20


def nodes_of(results: list) -> Counter[str]:
    return Counter(result.nodename for result in results if result.success)


async def test_one_result_per_instance_and_everything_recorded(lab) -> None:
    await lab.add_nodes("n1", "n2")
    results = await lab.deploy(4)
    assert [result.error for result in results] == [None] * 4
    assert nodes_of(results) == {"n1": 2, "n2": 2}
    workloads = {workload.id: workload for workload in await lab.workloads()}
    assert set(workloads) == {result.id for result in results} == set(lab.fakes.containers())
    assert await lab.intents() == []
    assert await lab.diffs() == []
    one = workloads[results[0].id]
    assert one.name.startswith("app_web_")
    assert one.labels["ERU"] == "1"
    assert one.labels["eru.coreid"] == "lab"
    assert one.labels["eru.nodename"] == one.nodename


async def test_environment_is_each_instances_own(lab) -> None:
    """Appending to one shared list mixed up node names and sequence numbers."""
    await lab.add_nodes("n1", "n2", "n3")
    await lab.deploy(9, env=["A=1"])
    seen = set()
    for node, container in lab.fakes.containers().values():
        env = list(container.env)
        assert env[:3] == ["A=1", "APP_NAME=app", "ERU_POD=pod"]
        assert f"ERU_NODE_NAME={node}" in env
        seen.add(next(entry for entry in env if entry.startswith("ERU_WORKLOAD_SEQ=")))
    assert seen == {f"ERU_WORKLOAD_SEQ={number}" for number in range(9)}
    assert all(workload.env == ["A=1"] for workload in await lab.workloads())


async def test_a_refusal_is_one_message_with_reasons_and_changes_nothing(lab) -> None:
    await lab.add_nodes("n1", "n2")
    await lab.add_nodes("n3", test=False)
    before = lab.store.revision
    [result] = await lab.deploy(40)
    assert isinstance(result.error, NoCapacity)
    assert result.nodename == ""
    assert not result.success
    reasons = {refusal.nodename: refusal.reason for refusal in result.refusals}
    assert reasons["n3"] is Reason.DOWN
    assert lab.store.revision == before


async def test_what_is_wrong_in_itself_is_said_at_once(lab) -> None:
    for wrong in (
        {"count": 0},
        {"count": -1},
        {"app": ""},
        {"app": "a/b"},
        {"image": ""},
        {"entrypoint": Entrypoint(name="a_b")},
    ):
        with pytest.raises(InvalidInput):
            deploy(lab.core, msgspec.structs.replace(lab.spec(), **wrong))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [({"resources": {"cpumem": {"memory-request": -1}}}, InvalidInput), ({"strategy": Strategy.DUMMY}, Refused)],
)
async def test_what_cannot_be_scheduled_is_one_result_with_only_an_error(lab, wrong, kind) -> None:
    spec = msgspec.structs.replace(lab.spec(count=3), **wrong)
    results = [result async for result in deploy(lab.core, spec)]
    assert [(type(result.error), result.id, result.nodename) for result in results] == [(kind, "", "")]


async def test_a_failing_engine_costs_only_its_own_instances(lab) -> None:
    await lab.add_nodes("n1")
    await lab.add_nodes("n2", knobs="?fail_start=1")
    results = await lab.deploy(4)
    assert nodes_of(results) == {"n1": 2}
    bad = [result for result in results if not result.success]
    assert len(bad) == 2
    assert all(result.nodename == "n2" and result.name and result.error for result in bad)
    await lab.at_rest()


async def test_a_lost_create_is_found_and_removed(lab) -> None:
    await lab.add_nodes("n1", knobs="?lose_create=1")
    results = await lab.deploy(3)
    assert not any(result.success for result in results)
    await lab.at_rest()
    assert lab.fakes.containers() == {}


async def test_all_or_nothing_leaves_none(lab) -> None:
    await lab.add_nodes("n1")
    await lab.add_nodes("n2", knobs="?fail_start=1")
    results = await lab.deploy(4, all_or_nothing=True)
    assert len(results) == 4
    assert not any(result.success for result in results)
    await lab.at_rest()
    assert lab.fakes.containers() == {}


async def test_all_or_nothing_gives_all(lab) -> None:
    await lab.add_nodes("n1", "n2")
    results = await lab.deploy(4, all_or_nothing=True)
    assert [result.success for result in results] == [True] * 4


async def test_a_client_that_leaves_leaves_nothing_unrecorded(lab) -> None:
    await lab.add_nodes("n1")
    await lab.add_nodes("n2", knobs="?start_ms=30000")
    results = deploy(lab.core, lab.spec(4))
    first = await anext(results)
    assert first.success
    await results.aclose()
    await lab.at_rest()
    assert {workload.nodename for workload in await lab.workloads()} == {"n1"}


class SlowToRecord(MemoryStore):
    """Holds back the transaction that records a workload; its answer may get lost, before or after it took effect."""

    def __init__(self, world, fate: str) -> None:
        super().__init__(world)
        self.fate = fate
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def txn(self, compares, writes):
        if self.go.is_set() or not any(write.key.startswith("/eru/workload/") for write in writes):
            return await super().txn(compares, writes)
        self.reached.set()
        await self.go.wait()
        if self.fate == "not done":
            raise StoreUnavailable("no answer")
        result = await super().txn(compares, writes)
        if self.fate == "lost":
            raise OutcomeUnknown("no answer")
        return result


@pytest.mark.parametrize("fate", ["done", "lost", "not done"])
async def test_a_client_that_leaves_during_the_record(lab, fate) -> None:
    other = type(lab)(lab.world, SlowToRecord(lab.world, fate), lab.keys, lab.fakes)
    assert other.keys.workloads == "/eru/workload/"
    core = await other.add_core()
    await other.add_nodes("n1")
    reading = asyncio.ensure_future(other.deploy())
    async with asyncio.timeout(60):
        await other.store.reached.wait()
        reading.cancel()
        await asyncio.wait({reading})
        other.store.go.set()
        assert await core.background.wait_idle(60)
    await other.at_rest()
    assert len(await other.workloads()) == (fate != "not done")
    await core.stop()
    await other.pools[0].close()
    await other.store.close()


async def test_two_cores_never_give_away_too_much(lab) -> None:
    await lab.add_nodes("n1", "n2", memory=640 * MIB)
    other = await lab.add_core()
    many = await asyncio.gather(*(lab.deploy(1, core=core) for core in [lab.core, other] * 15))
    results = [result for results in many for result in results]
    assert sum(result.success for result in results) == 20
    assert all(isinstance(result.error, NoCapacity) for result in results if not result.success)
    await lab.at_rest()


async def test_deploys_at_the_same_moment_spread_as_if_one_after_the_other(lab) -> None:
    await lab.add_nodes(*(f"n{number}" for number in range(8)))
    await asyncio.gather(*(lab.deploy(1) for _ in range(32)))
    assert set(Counter(workload.nodename for workload in await lab.workloads()).values()) == {4}


async def test_fill_and_each(lab) -> None:
    await lab.add_nodes("n1", "n2", "n3")
    assert nodes_of(await lab.deploy(2, strategy=Strategy.EACH, nodes_limit=2)) == {"n1": 2, "n2": 2}
    assert nodes_of(await lab.deploy(3, strategy=Strategy.FILL)) == {"n1": 1, "n2": 1, "n3": 3}
    [full] = await lab.deploy(3, strategy=Strategy.FILL)
    assert isinstance(full.error, Refused)


@pytest.mark.parametrize("more", [{}, {"resources": {}}])
async def test_two_cores_that_fill_at_the_same_time_fill_once(lab, more) -> None:
    """A FILL says how many there are in the end, not how many more."""
    await lab.add_nodes("n1", "n2", "n3", memory=16 << 30)
    other = await lab.add_core()
    await asyncio.gather(
        *(lab.deploy(3, core=core, strategy=Strategy.FILL, **more) for core in (lab.core, other) for _ in range(2))
    )
    assert Counter(workload.nodename for workload in await lab.workloads()) == {"n1": 3, "n2": 3, "n3": 3}
    await lab.at_rest()


async def test_two_cores_keep_a_limit_per_node_together(lab) -> None:
    await lab.add_nodes("n1", "n2", "n3")
    other = await lab.add_core()
    results = await asyncio.gather(*(lab.deploy(5, core=core, nodes_limit=2) for core in (lab.core, other)))
    counts = Counter(workload.nodename for workload in await lab.workloads())
    assert max(counts.values()) <= 2
    assert sorted(len(result) for result in results) == [1, 5]  # one was refused, whole
    await lab.at_rest()


async def test_a_node_is_filled_with_more_than_one_reservation_holds(lab) -> None:
    await lab.add_nodes("n1", memory=64 << 30)
    assert all(one.success for one in await lab.deploy(20 * RESERVE_MAX, strategy=Strategy.FILL, resources={}))
    assert len(await lab.workloads()) == 20 * RESERVE_MAX


async def test_a_reviewed_plan_runs_once(lab) -> None:
    await lab.add_nodes("n1", "n2", "n3", "n4")
    reviewed = await dry_run(lab.core, lab.spec(2))
    assert [placement.nodename for placement in reviewed.placements] == ["n1", "n2"]
    many = await asyncio.gather(*(lab.deploy(2, if_revision=reviewed.revision) for _ in range(50)))
    won = [results for results in many if results[0].success]
    assert [nodes_of(results) for results in won] == [{"n1": 1, "n2": 1}]
    assert all(isinstance(results[0].error, Conflict) for results in many if not results[0].success)
    assert len(await lab.workloads()) == 2


async def test_named_nodes_are_taken_as_they_are(lab) -> None:
    await lab.add_nodes("n1")
    await lab.add_nodes("n2", test=False, bypass=True)
    results = await lab.deploy(2, nodes=NodeFilter(podname="pod", includes=["n2", "n2"]))
    assert nodes_of(results) == {"n2": 2}


async def test_files_and_hooks(lab) -> None:
    await lab.add_nodes("n1")
    hook = Hook(after_start=["echo 'hello world'", "sh -c 'exit 3'"])
    [result] = await lab.deploy(
        files=[FileToSend(path="/etc/app.conf", content=b"x=1")],
        entrypoint=Entrypoint(name="web", commands=["serve"], hook=hook, publish=["80"]),
        networks={"bridge": "10.0.0.9"},
    )
    assert result.success
    assert b"hello world" in result.hook
    assert result.publish == {"bridge": "10.0.0.9:80"}
    [(_, container)] = lab.fakes.containers().values()
    assert container.extra.files["/etc/app.conf"][0] == b"x=1"


async def test_a_failing_forced_hook_fails_the_deploy(lab) -> None:
    await lab.add_nodes("n1")
    entrypoint = Entrypoint(name="web", commands=["serve"], hook=Hook(after_start=["sh -c 'exit 3'"], force=True))
    [result] = await lab.deploy(entrypoint=entrypoint)
    assert result.error is not None
    assert str(result.error)
    await lab.at_rest()
    [result] = await lab.deploy(entrypoint=entrypoint, ignore_hook=True)
    assert result.success


async def test_capacity(lab) -> None:
    await lab.add_nodes("n1", "n2", memory=640 * MIB)
    everything = await capacity(lab.core, lab.spec(0, strategy=Strategy.DUMMY))
    assert (everything.total, everything.nodes) == (20, {"n1": 10, "n2": 10})
    planned = await capacity(lab.core, lab.spec(3))
    assert planned.total == 3
    with pytest.raises(NoCapacity) as refused:
        await capacity(lab.core, lab.spec(21))
    assert len(refused.value.refusals) == 2


async def test_large_nodes_are_written_in_as_many_transactions_as_it_takes(lab) -> None:
    await lab.add_nodes(*(f"n{number:02}" for number in range(5)), cores=14_000, memory=1 << 40)
    results = await lab.deploy(5)  # one each: all records together are more than a store takes at once
    assert [result.error for result in results] == [None] * 5
    assert len(nodes_of(results)) == 5
    assert await lab.diffs() == []
