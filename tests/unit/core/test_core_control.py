"""Restart is finished by somebody, whoever goes away in the middle."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from eru.core.ops.control import ControlVerb, control
from eru.model.intents import Intent, Verb
from eru.store.contract import Put


async def restart(core, id: str):
    async with aclosing(control(core, [id], ControlVerb.RESTART, force=False)) as results:
        return [result async for result in results]


async def test_a_restart_of_a_dead_core_is_done_again(lab) -> None:
    """Also where the workload still runs: its engine may be about to stop it."""
    await lab.add_nodes("n1")
    stopped, runs = await lab.deploy(2)
    node = lab.fakes.node("n1")
    before = node.get(runs.id).started_at
    node.end(node.get(stopped.id), before + 0.001, 0)
    assert not node.get(stopped.id).running
    for one in (stopped, runs):
        note = {"op": "1", "owner": "dead", "nodename": "n1", "counted": False}
        intent = Intent(verb=Verb.RESTART, name=one.name, id=one.id, **note)
        await lab.store.txn([], [Put(lab.keys.intent("n1", one.name), intent.encode())])
    lab.core.recovery.wake()
    await lab.at_rest()
    assert node.get(stopped.id).running
    assert node.get(runs.id).running
    assert node.get(runs.id).started_at > before


async def test_a_client_that_leaves_in_the_middle_leaves_it_running(lab) -> None:
    await lab.add_nodes("n1", knobs="?stop_ms=200")
    [one] = await lab.deploy()
    node = lab.fakes.node("n1")
    task = asyncio.create_task(restart(lab.core, one.id))
    await lab.until(lambda: bool(lab.core.fleet.intent_of("n1", one.name)))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await lab.at_rest()
    assert node.get(one.id).running


async def test_nothing_is_left_of_one_that_succeeds(lab) -> None:
    await lab.add_nodes("n1")
    [one] = await lab.deploy()
    [result] = await restart(lab.core, one.id)
    assert result.error is None
    assert not await lab.intents()
    assert lab.fakes.node("n1").get(one.id).running
