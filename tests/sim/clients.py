"""Clients that ask for things by chance, remember what they were told, and sometimes go away in the middle."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec

from eru.core.ops.control import ControlVerb, control
from eru.core.ops.deploy import deploy
from eru.core.ops.dissociate import dissociate
from eru.core.ops.nodes import add_node, remove_node, set_node
from eru.core.ops.realloc import realloc
from eru.core.ops.remove import remove
from eru.core.ops.replace import replace
from eru.core.ops.run import RunRequest, run_and_wait
from eru.model.deploy import DeploySpec, Entrypoint, NodeFilter, ReplaceSpec, Strategy
from eru.model.errors import EruError, OutcomeUnknown
from eru.model.requests import NewNode, NodeChange
from eru.model.results import Deployed
from eru.store.contract import range_all
from sim.cluster import POD, Cluster, Life

APPS = ("red", "blue")
STRATEGIES = (Strategy.AUTO, Strategy.AUTO, Strategy.FILL, Strategy.EACH, Strategy.GLOBAL, Strategy.DRAINED)


class Clients:
    """One life's worth of requests. `told`: what went wrong with the answers themselves."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.chance = cluster.chance
        self.told: list[str] = []
        self.answers = 0

    async def run(self, requests: int, spread_s: float) -> None:
        """`requests` of them, started over `spread_s` of virtual time."""
        verbs = [
            *[self._deploy] * 4,
            *[self._remove] * 2,
            self._dissociate,
            *[self._realloc] * 2,
            *[self._replace] * 2,
            self._run,
            self._control,
            self._nodes,
        ]
        async with asyncio.TaskGroup() as group:
            for _ in range(requests):
                group.create_task(self._one(self.chance.choice(verbs), self.chance.uniform(0, spread_s)))

    async def _one(self, verb: Any, delay_s: float) -> None:
        await self.cluster.world.clock.sleep(delay_s)
        life = self.cluster.anyone()
        if life is None:
            return
        patience_s = self.chance.choice([0.05, 0.2, 1.0, 300.0, 300.0, 300.0])
        task = self.cluster.run_in(life, verb(life))
        done, _ = await asyncio.wait({task}, timeout=patience_s)
        if not done:
            self.cluster.tell(f"a client of {life.name} goes away")
            task.cancel()
            await asyncio.wait({task}, timeout=100.0)
            if not task.done() and not life.faults.dead:
                self.told.append("a request did not end within 100 s of its client's going away")
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, EruError):
                raise error
            self.cluster.tell(f"{life.name} answers: {error}")

    def spec(self) -> DeploySpec:
        """A request by chance; some cannot be met."""
        chance = self.chance
        cpumem: dict[str, Any] = {"memory-request": chance.choice([16, 64, 256]) << 20}
        if chance.random() < 0.4:
            cpumem |= {"cpu-request": chance.choice([0.5, 1, 1.5]), "cpu-bind": True}
        else:
            cpumem |= {"cpu-request": 0.1}
        strategy = chance.choice(STRATEGIES)
        together = chance.random() < 0.3
        return DeploySpec(
            app=chance.choice(APPS),
            entrypoint=Entrypoint(name="web", commands=["serve"]),
            image="image",
            count=chance.choice([1, 1, 2, 5])
            if strategy in (Strategy.FILL, Strategy.EACH)
            else chance.choice([1, 3, 8, 8, 40] if together else [1, 3, 8]),
            nodes_limit=chance.choice([0, 0, 2]) if strategy is not Strategy.AUTO else 0,
            nodes=NodeFilter(podname=POD),
            strategy=strategy,
            resources={"cpumem": cpumem},
            ignore_pull=chance.random() < 0.7,
            all_or_nothing=together,
        )

    async def _deploy(self, life: Life) -> None:
        spec = self.spec()
        good, bad = [], []
        async with aclosing(deploy(life.core, spec)) as results:
            async for result in results:
                (good if result.success else bad).append(result)
                self.answers += 1
                if result.success:
                    self.cluster.told_made.add(result.id)
                elif result.name and not isinstance(result.error, OutcomeUnknown):
                    self.cluster.told_failed.add(result.name)
        self._check(spec, good, bad)
        text = "; ".join(sorted({str(result.error) for result in bad}))
        self.cluster.tell(
            f"{life.name} deployed {len(good)} of {spec.app} ({spec.strategy.name} {spec.count}), "
            f"{len(bad)} failed {text}"
        )
        if spec.all_or_nothing and good and bad:
            self.told.append("all or nothing gave some")

    def _check(self, spec: DeploySpec, good: list[Deployed], bad: list[Deployed]) -> None:
        """Exactly one result per instance, or one that refuses all of them."""
        refused = [result for result in bad if not result.nodename]
        if refused and (good or len(bad) > 1):
            self.told.append(f"refused, and still {len(good)} made and {len(bad)} failed")
        elif not refused and spec.strategy not in (Strategy.FILL, Strategy.EACH) and len(good) + len(bad) != spec.count:
            self.told.append(f"{len(good) + len(bad)} results for {spec.count} instances")

    async def ids(self) -> list[str]:
        items, _ = await range_all(self.cluster.store, self.cluster.keys.workloads, keys_only=True)
        ids = [item.key.rpartition("/")[2] for item in items]
        self.chance.shuffle(ids)
        return ids

    async def _remove(self, life: Life) -> None:
        ids = (await self.ids())[: self.chance.choice([1, 3, 10])]
        if not ids:
            return
        force = self.chance.random() < 0.8
        async with aclosing(remove(life.core, ids, force=force)) as results:
            async for result in results:
                self.answers += 1
                self.cluster.tell(f"{life.name} removed {result.id[:8]}: {result.error or 'ok'}")
                if result.success and await self.cluster.store.get(self.cluster.keys.workload(result.id)):
                    self.told.append(f"{result.id} was told removed, and is recorded")

    async def _dissociate(self, life: Life) -> None:
        ids = (await self.ids())[:1]
        if not ids or self.chance.random() < 0.5:
            return
        self.cluster.dissociated.update(ids)  # whatever the answer: it may have happened
        async with aclosing(dissociate(life.core, ids)) as results:
            async for result in results:
                self.cluster.tell(f"{life.name} dissociated {result.id[:8]}: {result.error or 'ok'}")

    async def _realloc(self, life: Life) -> None:
        chance = self.chance
        for id in (await self.ids())[:1]:
            change = {
                "cpumem": {
                    "memory-request": chance.choice([-16, 16, 64]) << 20,
                    "cpu-request": chance.choice([0, 0.1, -0.1]),
                }
            }
            await realloc(life.core, id, change)
            self.answers += 1
            self.cluster.tell(f"{life.name} reallocated {id[:8]}")

    async def _replace(self, life: Life) -> None:
        ids = (await self.ids())[: self.chance.choice([0, 1, 3])]
        spec = ReplaceSpec(deploy=self.spec(), ids=ids, network_inherit=self.chance.random() < 0.3)
        async with aclosing(replace(life.core, spec)) as results:
            async for result in results:
                self.answers += 1
                new = result.create.id[:8] if result.create else "nothing"
                self.cluster.tell(f"{life.name} replaced {result.remove.id[:8]} by {new}: {result.error or 'ok'}")
                if result.error is None and result.create is None:
                    self.told.append(f"{result.remove.id} was told replaced by nothing")

    async def _run(self, life: Life) -> None:
        spec = self.spec()
        commands = self.chance.choice([["sleep", "1"], ["sleep", "30"], ["echo", "hello"], ["sleep", "100000"]])
        entrypoint = Entrypoint(name="job", commands=commands)
        spec = msgspec.structs.replace(spec, app="grey", entrypoint=entrypoint, count=1, strategy=Strategy.AUTO)
        request = RunRequest(spec=spec, asynchronous=self.chance.random() < 0.3, timeout_s=40.0)
        said = []
        async with aclosing(run_and_wait(life.core, request, None)) as results:
            async for result in results:
                said.append(type(result).__name__)
        self.answers += 1
        self.cluster.tell(f"{life.name} ran {commands}: {' '.join(said)}")

    async def _control(self, life: Life) -> None:
        ids = (await self.ids())[:2]
        async with aclosing(control(life.core, ids, ControlVerb.RESTART, force=False)) as results:
            async for result in results:
                self.answers += 1
                self.cluster.tell(f"{life.name} restarted {result.id[:8]}: {result.error or 'ok'}")

    async def _nodes(self, life: Life) -> None:
        """Machines come, go, and are taken out of scheduling and put back."""
        chance, core = self.chance, life.core
        name = f"extra{chance.randrange(2)}"
        roll = chance.random()
        if roll < 0.4:
            new = NewNode(name=name, podname=POD, endpoint=f"fake://{name}?cpu=4&memory=1G", test=True)
            await add_node(core, new)
        elif roll < 0.8:
            await remove_node(core, name)
        else:
            name = f"node{chance.randrange(self.cluster.nodes):02d}"
            await set_node(core, NodeChange(name=name, bypass=chance.random() < 0.5))
        self.cluster.tell(f"{life.name} changed {name}")
