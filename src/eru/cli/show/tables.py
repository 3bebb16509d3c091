"""The tables of the nouns: which columns, which lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from eru.cli.show import resources
from eru.cli.show.table import Record, render
from eru.wire import core_pb2 as pb


def addresses(publish: Mapping[str, str], networks: Mapping[str, str]) -> str:
    """Where an instance answers: `10.0.0.5:80`, or `10.0.0.5` where it publishes no port; with commas if several."""
    found = (publish.get(name) or networks.get(name, "") for name in sorted({*publish, *networks}))
    return ", ".join(address for address in found if address)


def pods(found: Sequence[pb.Pod]) -> str:
    return render(["NAME", "DESCRIPTION"], [[[pod.name], [pod.desc]] for pod in found])


def _kinds(texts: Iterable[str], *, every: bool = False) -> list[str]:
    """Every resource kind that any of them has something of, sorted; or just `every` kind that is named."""
    opened = [resources.opened(text) for text in texts]
    return sorted(
        {kind for each in opened for kind, values in each.items() if every or not resources.is_nothing(values)}
    )


def nodes(found: Sequence[pb.Node], *, info: bool = False, every: bool = False) -> str:
    """One table for all; "" for none. `every`: a column for each kind in use, also for those of which there is none."""
    if not found:
        return ""
    if every:
        kinds = _kinds((node.resource_usage for node in found), every=True)
    else:
        kinds = _kinds(text for node in found for text in (node.resource_capacity, node.resource_usage))
    heads = ["NAME", "ENDPOINT", "STATUS", *kinds, *(["INFO"] if info else [])]
    return render(heads, [_node(node, kinds, info=info) for node in found], separate=True)


def _node(node: pb.Node, kinds: Sequence[str], *, info: bool) -> Record:
    up = node.available and not node.bypass
    status = "\n".join(
        (
            "UP" if up else "DOWN",
            f"bypass {_bool(node.bypass)}",
            f"available {_bool(node.available)}",
            f"test {_bool(node.test)}",
        )
    )
    capacity, used = resources.opened(node.resource_capacity), resources.opened(node.resource_usage)
    columns = [resources.node_lines(capacity.get(kind, {}), used.get(kind, {})) for kind in kinds]
    # the status is one tall cell: the resource lines go on below it
    record = [[node.name], [node.endpoint], [status], *columns]
    return [*record, _info(node.info)] if info else record


def _info(text: str) -> list[str]:
    """Engine information as `key: value` lines, or the reason why there is none."""
    try:
        data = json.loads(text)
    except ValueError:
        return text.splitlines()
    return resources.lines(data, skip_null=True) if isinstance(data, dict) else []


def _bool(value: bool) -> str:
    return "true" if value else "false"


def node_resources(found: Sequence[pb.NodeResource]) -> str:
    heads = ["NAME", "CPU", "MEMORY", "STORAGE", "VOLUME", "DIFFS"]
    records = []
    for node in found:
        share = resources.shares(node.resource_capacity, node.resource_usage)
        cells = [[f"{share[key] * 100:.2f}%"] for key in ("cpu", "memory", "storage", "volume")]
        records.append([[node.name], *cells, ["\n".join(node.diffs)]])
    return render(heads, records, separate=True)


def workloads(found: Sequence[pb.Workload], *, every: bool = False) -> str:
    """ "" for none. `every`: a column for each kind, also for those of which there is none."""
    if not found:
        return ""
    kinds = _kinds((workload.resources for workload in found), every=every)
    return render(
        ["NAME/ID/POD/NODE/PRIVILEDGED", "NETWORKS", *kinds],
        [_workload(workload, kinds) for workload in found],
        separate=True,
    )


def _workload(workload: pb.Workload, kinds: Sequence[str]) -> Record:
    first = [
        workload.name,
        workload.id,
        workload.podname,
        workload.nodename,
        f"Priviledged: {_bool(workload.privileged)}",
    ]
    granted = resources.opened(workload.resources)
    return [first, network_lines(workload), *(resources.lines(granted.get(kind, {})) for kind in kinds)]


def network_lines(workload: pb.Workload) -> list[str]:
    """`name: ip:port`, further addresses below the first."""
    out: list[str] = []
    for name in sorted(workload.status.networks):
        addresses = [each for each in workload.publish.get(name, "").split(",") if each]
        if not addresses:
            out.append(f"{name}: {workload.status.networks[name]}")
            continue
        first = f"{name}: {addresses[0]}"
        out += [first, *(address.rjust(len(first)) for address in addresses[1:])]
    return out


def statuses(found: Sequence[pb.WorkloadStatus]) -> str:
    records = []
    for status in found:
        state = [f"Running: {_bool(status.running)}", f"Healthy: {_bool(status.healthy)}"]
        networks = [f"{name}: {status.networks[name]}" for name in sorted(status.networks)]
        records.append([[status.id], state, networks, _extension(status.extension)])
    return render(["ID", "STATUS", "NETWORKS", "EXTENSIONS"], records, separate=True)


def _extension(data: bytes) -> list[str]:
    if not data:
        return []
    text = data.decode("utf-8", "replace")
    try:
        values = json.loads(text)
    except ValueError:
        return text.splitlines()
    if not isinstance(values, dict):
        return [text]
    return [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in sorted(values.items())]
