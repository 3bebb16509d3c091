"""What agents do, without agents: heartbeats and status reports of some nodes, which also die for a while."""

from __future__ import annotations

import asyncio
from typing import Any

from eru.core.ops.status import set_node_status, set_statuses
from eru.model.errors import EruError
from eru.model.nodes import Heartbeat, Node, NodeResource
from eru.model.workloads import Workload, WorkloadStatus
from eru.store.contract import Put, range_all
from sim.cluster import CORES_PER_NODE, MEMORY_PER_NODE, POD, Cluster

TTL_S = 8
ROUND_S = 2.0
DEATH_S = 25.0


class Agents:
    """Nodes `mortal0`, `mortal1`, ... that are up for as long as their agent says so."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.cluster = cluster
        self.chance = cluster.chance
        self.names = [f"mortal{number}" for number in range(count)]
        self.dead_for_good: set[str] = set()
        self.deaths = 0

    async def build(self) -> None:
        """The nodes, alive."""
        cluster, capacity = (
            self.cluster,
            {
                "cpu": float(CORES_PER_NODE),
                "cpu_map": {str(core): 100 for core in range(CORES_PER_NODE)},
                "memory": MEMORY_PER_NODE,
                "numa": {},
                "numa_memory": {},
            },
        )
        usage = cluster.kinds["cpumem"].zero(capacity)
        record = NodeResource(capacity={"cpumem": capacity}, usage={"cpumem": usage})
        for name in self.names:
            node = Node(name=name, podname=POD, endpoint=f"fake://{name}")
            lease = await cluster.store.grant(TTL_S)
            beat = Heartbeat(nodename=name, podname=POD)
            writes = [Put(cluster.keys.node(name), node.encode()), Put(cluster.keys.resource(name), record.encode())]
            await cluster.store.txn([], [*writes, Put(cluster.keys.heartbeat(name), beat.encode(), lease)])

    async def run(self) -> None:
        """All of them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self.names:
                group.create_task(self._agent(name))

    def heal(self) -> None:
        """From now on a node is either dead or well."""
        self.dead_for_good = {name for name in self.names if self.chance.random() < 0.4}

    async def _agent(self, name: str) -> None:
        clock, said, beaten = self.cluster.world.clock, {}, 0.0
        while True:
            await clock.sleep(self.chance.uniform(0.5, ROUND_S))
            if name in self.dead_for_good:
                continue
            if not self.cluster.healing and self.chance.random() < 0.02:
                self.deaths += 1
                self.cluster.tell(f"{name} dies")
                await clock.sleep(self.chance.uniform(1.0, DEATH_S))
                said = {}
            life = self.cluster.anyone()
            if life is None:
                continue
            if clock.monotonic() - beaten > TTL_S:
                said = {}  # it may have been taken for dead: everything is told again
            if await self._ask(life, set_node_status(life.core, name, TTL_S)):
                beaten = clock.monotonic()
                for id, running in self._now(name).items():
                    status = WorkloadStatus(id=id, running=running, healthy=running)
                    if said.get(id) is not running and await self._ask(life, set_statuses(life.core, [status])):
                        said[id] = running

    async def _ask(self, life: Any, work: Any) -> bool:
        """Whether a core said yes in time."""
        task = self.cluster.run_in(life, work)
        done, _ = await asyncio.wait({task}, timeout=5.0)
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=60.0)
            return False
        return not task.cancelled() and self._no_error(task)

    def _no_error(self, task: asyncio.Task[Any]) -> bool:
        error = task.exception()
        if error is not None and not isinstance(error, EruError):
            raise error
        return error is None

    def _now(self, name: str) -> dict[str, bool]:
        there = self.cluster.fakes.containers()
        return {id: container.running for id, (node, container) in there.items() if node == name}

    async def violations(self) -> list[str]:
        """Statuses that are not the truth."""
        store, keys, found = self.cluster.store, self.cluster.keys, []
        there = self.cluster.fakes.containers()
        for item in (await range_all(store, keys.workloads))[0]:
            workload = Workload.decode(item.value)
            if workload.nodename not in self.names:
                continue
            app, entrypoint, _ = workload.name.rsplit("_", 2)
            stored = await store.get(keys.status(app, entrypoint, workload.nodename, workload.id))
            status = WorkloadStatus.decode(stored.value) if stored else None
            if workload.nodename in self.dead_for_good:
                if status is not None and status.running:
                    found.append(f"{workload.name} is said to run on {workload.nodename}, which is dead")
            elif workload.id in there and (status is None or status.running != there[workload.id][1].running):
                found.append(f"{workload.name} on {workload.nodename} is told as {status}")
        statuses = (await range_all(store, keys.status()))[0]
        recorded = {item.key.rpartition("/")[2] for item in (await range_all(store, keys.workloads))[0]}
        found += [f"status left: {item.key}" for item in statuses if item.key.rpartition("/")[2] not in recorded]
        for name in self.names:
            beats = await store.get(keys.heartbeat(name)) is not None
            if beats == (name in self.dead_for_good):
                found.append(f"{name} {'has a heartbeat and is dead' if beats else 'has no heartbeat and is well'}")
        return found
