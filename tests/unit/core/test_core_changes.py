"""Remove, dissociate, replace, realloc and lambda on one core."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import Any

import pytest

from eru.core.ops.dissociate import dissociate
from eru.core.ops.realloc import realloc
from eru.core.ops.remove import remove
from eru.core.ops.replace import replace
from eru.core.ops.run import RunRequest, Started, run_and_wait
from eru.model.deploy import Entrypoint, FileToSend, ReplaceSpec
from eru.model.errors import EngineError, InvalidInput, NoCapacity, NotFound, Refused
from eru.model.intents import Intent, Verb
from eru.model.workloads import WorkloadStatus
from eru.store.contract import Put

MIB = 1 << 20


async def all_of(results: Any) -> list[Any]:
    async with aclosing(results) as source:
        return [result async for result in source]


async def test_remove(lab) -> None:
    await lab.add_nodes("n1")
    first, second = await lab.deploy(2)
    status = lab.keys.status("app", "web", "n1", first.id)
    await lab.store.txn([], [Put(status, WorkloadStatus(id=first.id).encode())])
    [refused] = await all_of(remove(lab.core, [first.id]))
    assert not refused.success
    assert lab.fakes.node("n1").get(first.id).running
    results = await all_of(remove(lab.core, [first.id, second.id, first.id], force=True))
    assert sorted(result.id for result in results if result.success) == sorted([first.id, second.id])
    assert await lab.store.get(status) is None
    assert lab.fakes.containers() == {}
    await lab.at_rest()


async def test_remove_of_what_is_not_there(lab) -> None:
    await lab.add_nodes("n1")
    [one] = await lab.deploy()
    with pytest.raises(InvalidInput):
        remove(lab.core, [])
    with pytest.raises(NotFound):
        await all_of(remove(lab.core, [one.id, "nobody"]))
    assert len(await lab.workloads()) == 1
    lab.fakes.node("n1").remove(lab.fakes.node("n1").get(one.id), 0.0)
    [gone] = await all_of(remove(lab.core, [one.id]))
    assert gone.success
    await lab.at_rest()


async def test_remove_at_the_same_time_is_done_once(lab) -> None:
    await lab.add_nodes("n1")
    [one] = await lab.deploy()
    other = await lab.add_core()
    both = await asyncio.gather(
        *(all_of(remove(core, [one.id], force=True)) for core in (lab.core, other)), return_exceptions=True
    )
    assert sum(isinstance(answer, list) and answer[0].success for answer in both) == 1
    await lab.at_rest()


async def test_dissociate_lets_it_run(lab) -> None:
    await lab.add_nodes("n1")
    [one] = await lab.deploy()
    [result] = await all_of(dissociate(lab.core, [one.id]))
    assert result.error is None
    assert await lab.workloads() == []
    assert await lab.diffs() == []
    assert lab.fakes.node("n1").get(one.id).running


async def test_replace_takes_over_place_and_grant(lab) -> None:
    await lab.add_nodes("n1")
    [old] = await lab.deploy(files=[FileToSend(path="/data", content=b"kept")], networks={"blue": "10.0.0.7"})
    spec = ReplaceSpec(deploy=lab.spec(image="newer"), network_inherit=True, copy={"/data": "/moved"})
    [result] = await all_of(replace(lab.core, spec))
    assert result.error is None
    assert result.remove.success
    assert result.remove.id == old.id
    [workload] = await lab.workloads()
    assert (workload.id, workload.image) == (result.create.id, "newer")
    assert workload.grant == old.resources
    [(_, container)] = lab.fakes.containers().values()
    assert container.running
    assert container.extra.files["/moved"][0] == b"kept"
    assert lab.fakes.node("n1").inspect(container).networks == {"blue": "10.0.0.7"}
    await lab.at_rest()


async def test_the_old_one_survives_a_failed_replace(lab) -> None:
    await lab.add_nodes("n1", knobs="?fail_send_file=1")
    [old] = await lab.deploy()
    spec = ReplaceSpec(deploy=lab.spec(files=[FileToSend(path="/a", content=b"b")]))
    [result] = await all_of(replace(lab.core, spec))
    assert isinstance(result.error, EngineError)
    assert not result.remove.success
    assert result.create is not None
    assert (result.create.success, result.create.error) == (False, result.error)
    assert [workload.id for workload in await lab.workloads()] == [old.id]
    assert lab.fakes.node("n1").get(old.id).running
    await lab.at_rest()


def runs_on(lab, id: str) -> bool:
    """Whether it runs and no stop is under way."""
    found = lab.fakes.node("n1").get(id)
    return found.running and math.isinf(found.ends_at)


async def test_the_old_one_survives_a_client_that_leaves_while_it_stops(lab) -> None:
    """The engine goes on with the stop, and would end what was started again too early."""
    await lab.add_nodes("n1", knobs="?grace_s=3")
    [old] = await lab.deploy()
    replacing = asyncio.create_task(all_of(replace(lab.core, ReplaceSpec(deploy=lab.spec()))))
    await lab.until(lambda: not runs_on(lab, old.id))
    replacing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    await lab.at_rest()
    assert runs_on(lab, old.id)
    assert [workload.id for workload in await lab.workloads()] == [old.id]


async def test_the_old_one_survives_a_core_that_dies_while_it_stops(lab) -> None:
    await lab.add_nodes("n1", knobs="?grace_s=1")
    [old] = await lab.deploy()
    left = Intent(
        op="lost",
        verb=Verb.REPLACE,
        owner="gone",
        nodename="n1",
        name=old.name,
        id=old.id,
        counted=False,
        stopping=True,
    )
    node = lab.fakes.node("n1")
    node.end_at(node.get(old.id), lab.world.clock.now() + 1, 143)
    await lab.store.txn([], [Put(lab.keys.intent("n1", old.name), left.encode())])
    lab.core.left_behind.set()
    await lab.at_rest()
    assert runs_on(lab, old.id)


async def test_replace_leaves_others_alone(lab) -> None:
    await lab.add_nodes("n1")
    await lab.deploy(2)
    spec = ReplaceSpec(deploy=lab.spec(), filter_labels={"tier": "gold"})
    assert await all_of(replace(lab.core, spec)) == []


async def test_realloc_changes_grant_usage_and_engine(lab) -> None:
    await lab.add_nodes("n1", memory=512 * MIB)
    [one] = await lab.deploy()
    await realloc(lab.core, one.id, {"cpumem": {"memory-request": 64 * MIB, "memory-limit": 128 * MIB}})
    [workload] = await lab.workloads()
    assert workload.grant["cpumem"]["memory_request"] == 128 * MIB
    assert lab.fakes.node("n1").get(one.id).resources()["cpumem"]["memory"] == 128 * MIB
    await lab.at_rest()
    with pytest.raises(NoCapacity, match="on node n1") as refused:
        await realloc(lab.core, one.id, {"cpumem": {"memory-request": 1024 * MIB}})
    [why] = refused.value.refusals
    told = (why.nodename, why.dimension, why.wanted, why.free)
    assert told == ("n1", "cpumem.memory", 1152 * MIB, 512 * MIB), "free without what it has itself"
    await lab.at_rest()


async def test_a_refused_realloc_is_as_if_it_had_not_been(lab) -> None:
    await lab.add_nodes("n1", knobs="?fail_update=1")
    [one] = await lab.deploy()
    before = (await lab.workloads())[0].grant
    with pytest.raises(EngineError):
        await realloc(lab.core, one.id, {"cpumem": {"memory-request": 64 * MIB}})
    assert (await lab.workloads())[0].grant == before
    await lab.at_rest()


async def test_lambda_is_told_and_cleaned_up(lab) -> None:
    await lab.add_nodes("n1")
    entrypoint = Entrypoint(name="job", commands=["echo", "hello"])
    said = await all_of(run_and_wait(lab.core, RunRequest(spec=lab.spec(2, entrypoint=entrypoint)), None))
    assert lab.core.deployed == 2, "they count as deployed, as published"
    assert [type(one) for one in said[:2]] == [Started, Started]
    assert sorted(one.data for one in said[2:]) == [b"[exitcode] 0"] * 2 + [b"hello\n"] * 2
    await lab.at_rest()
    assert lab.fakes.containers() == {}


async def test_lambda_whose_client_leaves_is_removed(lab) -> None:
    await lab.add_nodes("n1")
    spec = lab.spec(entrypoint=Entrypoint(name="job", commands=["sleep", "1000"]))
    results = run_and_wait(lab.core, RunRequest(spec=spec), None)
    assert (await anext(results)).id
    await results.aclose()
    await lab.at_rest()
    assert lab.fakes.containers() == {}


async def test_an_asynchronous_lambda_ends_with_its_time(lab) -> None:
    await lab.add_nodes("n1")
    spec = lab.spec(entrypoint=Entrypoint(name="job", commands=["sleep", "1000"]))
    said = await all_of(run_and_wait(lab.core, RunRequest(spec=spec, asynchronous=True, timeout_s=0.2), None))
    assert len(said) == 1
    assert said[0].id
    await lab.at_rest()
    assert lab.fakes.containers() == {}


async def test_a_running_lambda_can_be_removed_by_force(lab) -> None:
    await lab.add_nodes("n1")
    spec = lab.spec(entrypoint=Entrypoint(name="job", commands=["sleep", "1000"]))
    results = run_and_wait(lab.core, RunRequest(spec=spec), None)
    id = (await anext(results)).id
    [gentle] = await all_of(remove(lab.core, [id]))
    assert isinstance(gentle.error, Refused)
    [result] = await all_of(remove(lab.core, [id], force=True))
    assert result.success
    await results.aclose()
    await lab.at_rest()


async def test_input_is_for_one_instance(lab) -> None:
    with pytest.raises(InvalidInput):
        run_and_wait(lab.core, RunRequest(spec=lab.spec(2, open_stdin=True)), None)
