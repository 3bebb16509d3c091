"""A node that died in the middle of something and will not come back can be removed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from eru.core.ops.dissociate import dissociate
from eru.core.ops.nodes import remove_node
from eru.model.errors import Refused
from eru.model.intents import Intent, Verb
from eru.model.nodes import Heartbeat
from eru.store.contract import Delete, Put


async def left_behind(lab: Any, name: str, verb: Verb, **more: Any) -> str:
    """An intent of a core that died, which recovery has tried to settle in vain; its key."""
    key: str = lab.keys.intent("n1", name)
    intent = Intent(op="1", verb=verb, owner="dead", nodename="n1", name=name, counted=False, **more)
    await lab.store.txn([], [Put(key, intent.encode())])
    lab.core.recovery.wake()
    await lab.until(lambda: key in lab.core.recovery._tries)
    return key


async def test_a_dead_node_goes_with_what_could_not_be_settled(lab: Any) -> None:
    await lab.add_nodes("n1", test=False, knobs="?down=1")
    beat = lab.keys.heartbeat("n1")
    await lab.store.txn([], [Put(beat, Heartbeat(nodename="n1").encode())])
    await left_behind(lab, "app_web_abcdef", Verb.DEPLOY)
    await lab.core.fleet.fresh()
    with pytest.raises(Refused, match="busy"):
        await remove_node(lab.core, "n1")
    await lab.store.txn([], [Delete(beat)])
    await remove_node(lab.core, "n1")
    assert not await lab.intents()
    assert await lab.store.get(lab.keys.resource("n1")) is None


async def test_a_workload_whose_removal_was_cut_off_can_be_dissociated(lab: Any) -> None:
    await lab.add_nodes("n1", test=False)
    beat = lab.keys.heartbeat("n1")
    await lab.store.txn([], [Put(beat, Heartbeat(nodename="n1").encode())])
    await lab.core.fleet.fresh()
    [made] = await lab.deploy()
    assert made.error is None
    lab.fakes.node("n1").down = True
    await left_behind(lab, made.name, Verb.REMOVE, id=made.id)
    await lab.store.txn([], [Delete(beat)])
    async with aclosing(dissociate(lab.core, [made.id])) as results:
        assert [each.error async for each in results] == [None]
    assert not await lab.workloads()
    assert not await lab.intents()
    assert not await lab.diffs()
    await remove_node(lab.core, "n1")
