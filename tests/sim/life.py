"""One simulated life: faults, then healing, then rest. The same seed gives the same life."""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import dataclass

from eru.lib.tasks import TaskOwner
from sim.agents import Agents
from sim.clients import Clients
from sim.cluster import Cluster
from sim.faults import Chances
from sim.invariants import violations
from sim.loop import SimLoop

LATE_MOST_S = 120.0
REST_MOST_S = 240.0  # virtual seconds after healing within which everything must be at rest


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wrong` is empty for a life in which everything held."""

    seed: int
    wrong: list[str]
    story: list[str]
    virtual_s: float
    crashes: int
    faults: int


def live(seed: int, *, loud: bool = False) -> Verdict:
    """Run one life from start to rest."""
    loop = SimLoop(random.Random(seed * 31) if seed % 2 else None)  # half of the lives in an order by chance
    gc_was = gc.isenabled()
    gc.disable()  # collection order must not reach the simulation
    try:
        return loop.run_until_complete(_live(seed, loud))
    finally:
        loop.close()
        if gc_was:
            gc.enable()


async def _live(seed: int, loud: bool) -> Verdict:
    chance = random.Random(seed * 7919)
    cluster = Cluster(
        seed,
        cores=chance.choice([1, 2, 2, 3]),
        nodes=chance.choice([1, 1, 3, 3, 3, 6, 6, 6, 20, 100]),
        loud=loud,
        chances=_chances(chance),
    )
    await cluster.build()
    clients = Clients(cluster)
    agents = Agents(cluster, chance.choice([0, 1, 3]))
    await agents.build()
    around = TaskOwner("around")
    around.start("trouble", cluster.trouble())
    around.start("agents", agents.run())
    around.start("guard", cluster.guard())
    around.start("remember", cluster.remember())
    wrong: list[str] = []
    await clients.run(chance.choice([5, 10, 20]), chance.choice([0.1, 2.0, 20.0]))
    await cluster.heal()
    agents.heal()
    clock = cluster.world.clock
    await cluster.late.wait_idle(LATE_MOST_S)  # what engines still do for those who asked long ago
    healed = clock.monotonic()
    while (wrong := await violations(cluster) + await agents.violations()) and clock.monotonic() - healed < REST_MOST_S:
        await clock.sleep(1.0)
    cluster.tell(f"at rest after {clock.monotonic() - healed:.0f} s")
    wrong += clients.told + cluster.broken
    await around.close()
    await cluster.close()
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    wrong += [f"a task never ends: {name}" for name in left]
    return Verdict(seed, wrong, cluster.story, clock.monotonic(), cluster.crashes, cluster.faults_told)


def _chances(chance: random.Random) -> Chances:
    """Some lives are calm, some have one kind of trouble, some have all of it."""
    chances = Chances()
    mood = chance.random()
    if mood < 0.1:
        chances.heal()
    elif mood < 0.5:
        for name in Chances.__slots__:
            if name not in ("store_slow", "engine_slow") and chance.random() < 0.6:
                setattr(chances, name, 0.0)
    elif mood > 0.8:
        for name in Chances.__slots__:
            if name not in ("store_slow", "engine_slow"):
                setattr(chances, name, getattr(chances, name) * 3)
    return chances
