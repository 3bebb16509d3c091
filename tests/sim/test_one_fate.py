"""All or nothing, with the core dying after each of its transactions in turn: never some of the instances."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from eru.core.ops.deploy import deploy
from eru.store.contract import range_all
from sim.clients import Clients
from sim.cluster import Cluster
from sim.faults import Chances
from sim.invariants import violations
from sim.loop import SimLoop

COUNT = 70  # their records take three transactions
REST_MOST_S = 240.0


async def _life(number: int) -> tuple[bool, int, list[str]]:
    """(whether it crashed, instances in the end, what is wrong)."""
    chances = Chances()
    chances.heal()
    cluster = Cluster(number, cores=2, nodes=6, chances=chances)
    await cluster.build()
    remember = asyncio.ensure_future(cluster.remember())
    life = cluster.lives["core0"]
    left = number

    def strike(verb: str) -> bool:
        nonlocal left
        left -= verb == "txn"
        return verb == "txn" and left == 0

    spec = Clients(cluster).spec()
    cpumem = {"cpu-request": 0.1, "memory-request": 8 << 20}
    changes = {"count": COUNT, "nodes_limit": 0, "all_or_nothing": True, "ignore_pull": True}
    spec = msgspec.structs.replace(spec, resources={"cpumem": cpumem}, **changes)
    life.faults.strike = strike

    async def ask() -> None:
        async with aclosing(deploy(life.core, spec)) as results:
            async for _ in results:
                pass

    asking = cluster.run_in(life, ask())
    try:
        await asyncio.wait({asking}, timeout=60)
        crashed = life.faults.dead
        await cluster.heal()
        for _ in range(int(REST_MOST_S)):
            if not (wrong := await violations(cluster)):
                break
            await cluster.world.clock.sleep(1.0)
        recorded = await range_all(cluster.store, cluster.keys.workloads)
        return crashed, len(recorded[0]), wrong
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        remember.cancel()
        await cluster.close()


def test_every_transaction_as_the_last() -> None:
    ends, number, crashed = set(), 0, True
    while crashed:
        number += 1
        loop = SimLoop()
        try:
            crashed, count, wrong = loop.run_until_complete(_life(number))
        finally:
            loop.close()
        assert not wrong, f"transaction {number}: {wrong[:3]}"
        assert count in (0, COUNT), f"transaction {number}: {count} of {COUNT} instances"
        ends.add(count)
        if number > 100:
            pytest.fail("the deploy never ends without a crash")
    assert ends == {0, COUNT}
    assert number > 6
