"""What must be true of a cluster that has come to rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eru.core.accounts import within
from eru.model.nodes import NodeResource
from eru.model.workloads import Workload
from eru.store.contract import range_all
from sim.cluster import Cluster


async def violations(cluster: Cluster) -> list[str]:
    """One sentence for each thing that is wrong; empty at rest."""
    store, keys = cluster.store, cluster.keys
    found: list[str] = []
    workloads = [Workload.decode(item.value) for item in (await range_all(store, keys.workloads))[0]]
    found += [f"intent left: {item.key} {item.value.decode()}" for item in (await range_all(store, keys.intents))[0]]
    found += _containers(cluster, workloads)
    found += await _indexes(cluster, workloads)
    found += await _usage(cluster, workloads)
    found += _views(cluster, workloads)
    found += [f"group left: {item.key}" for item in (await range_all(store, f"{keys.root}/group/"))[0]]
    for names in cluster.groups.values():
        made = names & cluster.ever_named
        if made and made != names:
            found.append(f"of {len(names)} instances that were to be all or none {len(made)} were made: {sorted(made)}")
    nodes = {item.key.rpartition("/")[2] for item in (await range_all(store, keys.nodes))[0]}
    found += [
        f"{one.name} is recorded on {one.nodename}, which does not exist"
        for one in workloads
        if one.nodename not in nodes
    ]
    return found


def _containers(cluster: Cluster, workloads: list[Workload]) -> list[str]:
    found = []
    there = cluster.fakes.containers()
    recorded = {workload.id: workload for workload in workloads}
    for id, (node, container) in sorted(there.items()):
        if id not in recorded and id not in cluster.dissociated:
            found.append(f"container {container.name} ({id[:8]}) on {node} has no record")
        elif id in recorded and (recorded[id].nodename, recorded[id].name) != (node, container.name):
            found.append(f"container {container.name} on {node} is recorded as {recorded[id].name}")
    for id, workload in sorted(recorded.items()):
        if id not in there:
            found.append(f"record {workload.name} ({id[:8]}) on {workload.nodename} has no container")
        elif not there[id][1].running and id not in cluster.unwilling:
            found.append(f"workload {workload.name} on {workload.nodename} does not run")
        elif (limits := _limits(there[id][1].resources())) != (wanted := _limits(workload.engine_params)):
            found.append(f"workload {workload.name} has limits {limits}, recorded {wanted}")
    return found


def _limits(params: dict[str, Any]) -> tuple[Any, Any]:
    cpumem = params.get("cpumem", {})
    return cpumem.get("cpu"), cpumem.get("memory")


async def _indexes(cluster: Cluster, workloads: list[Workload]) -> list[str]:
    keys = cluster.keys
    wanted = set()
    for workload in workloads:
        app, entrypoint, _ = workload.name.rsplit("_", 2)
        wanted.add(keys.on_node(workload.nodename, workload.id))
        wanted.add(keys.of_app(app, entrypoint, workload.nodename, workload.id))
    there = set()
    for room in ("on-node", "of-app"):
        there |= {item.key for item in (await range_all(cluster.store, f"{keys.root}/{room}/"))[0]}
    return [f"index missing: {key}" for key in sorted(wanted - there)] + [
        f"index left: {key}" for key in sorted(there - wanted)
    ]


async def _usage(cluster: Cluster, workloads: list[Workload]) -> list[str]:
    found = []
    for item in (await range_all(cluster.store, cluster.keys.resources))[0]:
        node = item.key.rpartition("/")[2]
        record = NodeResource.decode(item.value)
        for name, kind in cluster.kinds.items():
            ours = [workload.grant for workload in workloads if workload.nodename == node]
            grants = [grant[name] for grant in ours if name in grant]
            found += [f"usage of {node}: {text}" for text in kind.diffs(record.usage.get(name, {}), grants)]
        if not within(record.usage, record.capacity):
            found.append(f"{node} is over-allocated: {record.usage}")
    return found


def _views(cluster: Cluster, workloads: list[Workload]) -> list[str]:
    found = []
    truth: Counter[tuple[str, str, str]] = Counter()
    for workload in workloads:
        app, entrypoint, _ = workload.name.rsplit("_", 2)
        truth[app, entrypoint, workload.nodename] += 1
    for life in cluster.lives.values():
        core, view = life.core, life.core.fleet.view
        seen = {
            (app, entrypoint, view.name_of(row)): count
            for (app, entrypoint), rows in view.counts().items()
            for row, count in rows.items()
        }
        if seen != dict(truth):
            found.append(f"{life.name} counts {seen}, there are {dict(truth)}")
        if view.intents:
            found.append(f"{life.name} sees intents {sorted(view.intents)}")
        if view.pending.any() or core.active or core.planner.unsettled:
            found.append(f"{life.name} has something pending: {view.pending} {core.active}")
        for node in view.by_name.values():
            if node.resource_revision != _revision(cluster, node.name):
                found.append(f"{life.name} has an old record of {node.name}")
    return found


def _revision(cluster: Cluster, node: str) -> int:
    item = cluster.store._items.get(cluster.keys.resource(node))
    return item.mod_revision if item else 0
