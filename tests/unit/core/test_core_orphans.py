"""What an engine created much too late is found; everything else that looks like it is left alone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from eru.core.ops.dissociate import dissociate
from eru.engine.contract import CreateSpec
from eru.model.intents import Intent, Verb
from eru.model.workloads import LABEL_COREID, LABEL_ERU, LABEL_NODENAME
from eru.store.contract import Delete, Put

LABELS = {LABEL_ERU: "1", LABEL_COREID: "lab", LABEL_NODENAME: "n1"}


async def created(lab, name: str, labels: dict[str, str] = LABELS) -> str:
    """On the engine only, never started."""
    engine = await lab.core.engine_for("n1")
    spec = CreateSpec(name=name, image="image", labels=labels)
    return (await engine.create(spec)).id


async def looks(core) -> None:
    """Twice, far enough apart."""
    await core.watchdog.orphans.look("n1")
    await asyncio.sleep(0.06)
    await core.watchdog.orphans.look("n1")


async def test_only_what_nobody_can_want_is_removed(lab) -> None:
    core = await lab.add_core(orphan_round_s=0.1)
    await lab.add_nodes("n1")
    [kept, forgotten] = await lab.deploy(2)
    async with aclosing(dissociate(core, [forgotten.id])) as results:
        assert [result.error async for result in results] == [None]
    node = lab.fakes.node("n1")
    node.end(node.get(forgotten.id), lab.world.clock.now(), 0)  # it has run, and stands still like an orphan
    orphan = await created(lab, "app_web_orphan")
    making = await created(lab, "app_web_making")
    taking_over = await created(lab, "app_web_taking")
    others = await created(lab, "app_web_others", {**LABELS, LABEL_COREID: "another cluster"})
    strange = await created(lab, "strange")
    own = {"op": "1", "owner": lab.core.session.id, "nodename": "n1", "counted": False}
    lab.core.active.add("1")
    intents = [
        Intent(verb=Verb.DEPLOY, name="app_web_making", **own),
        Intent(verb=Verb.REPLACE, name=kept.name, id=kept.id, successor="app_web_taking", **own),
    ]
    for intent in intents:
        await lab.store.txn([], [Put(lab.keys.intent("n1", intent.name), intent.encode())])
    await core.watchdog.orphans.look("n1")
    assert orphan in lab.fakes.containers(), "one look is not enough"
    await looks(core)
    left = set(lab.fakes.containers())
    assert left == {kept.id, forgotten.id, making, taking_over, others, strange}
    assert core.watchdog.orphans.removed == 1
    for intent in intents:
        await lab.store.txn([], [Delete(lab.keys.intent("n1", intent.name))])
    await core.fleet.fresh()
    await looks(core)
    assert set(lab.fakes.containers()) == {kept.id, forgotten.id, others, strange}


async def test_what_is_started_meanwhile_is_left_alone(lab) -> None:
    core = await lab.add_core(orphan_round_s=0.1)
    await lab.add_nodes("n1")
    id = await created(lab, "app_web_orphan")
    await core.watchdog.orphans.look("n1")
    await (await core.engine_for("n1")).start(id)
    await looks(core)
    assert id in lab.fakes.containers()


async def test_the_leader_walks_over_all_nodes(lab) -> None:
    await lab.add_nodes("n1")
    orphan = await created(lab, "app_web_orphan")
    await lab.add_core(orphan_round_s=0.1)
    await lab.core.stop()
    await lab.until(lambda: orphan not in lab.fakes.containers())
    lab.cores.pop(0)
