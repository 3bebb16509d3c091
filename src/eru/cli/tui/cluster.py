"""What the screen knows of the cluster: kept small per instance, changed by messages, read by views."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from eru.cli.show.health import node_state, rooms
from eru.cli.show.tables import addresses
from eru.cli.workload.health import state_of
from eru.wire import core_pb2 as pb

RANKS = {"stopped": 0, "running": 1, "unreported": 2, "healthy": 3}  # what needs a look first


class Instance(msgspec.Struct):
    """One workload. `text`: what a filter looks into, in lower case. `seen` and `told`: the listing that last had it,
    and the one during which an event told of it (0: none).
    """

    id: str
    name: str
    app: str
    entry: str
    node: str
    pod: str
    image: str
    state: str
    addresses: str
    created: int
    text: str
    seen: int = 0
    told: int = 0


class NodeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as it is shown. Shares 0 to 1."""

    name: str
    pod: str
    endpoint: str
    state: str
    cpu: float
    memory: float
    text: str


def instance(workload: pb.Workload, seen: int = 0) -> Instance:
    """What is kept of a message."""
    app, entry, _ = [*workload.name.rsplit("_", 2), "", ""][:3]
    state = state_of(workload.status)
    where = addresses(workload.publish, workload.status.networks)
    text = f"{workload.name} {workload.nodename} {workload.podname} {state} {workload.image}".lower()
    return Instance(
        workload.id, workload.name, app, entry, workload.nodename, workload.podname, workload.image,
        state, where, workload.create_time, text, seen,
    )  # fmt: skip


def node_row(node: pb.Node) -> NodeRow:
    """What is kept of a message."""
    room = rooms(node)
    state = node_state(node)
    share = {name: has.used / has.capacity if has.capacity else 0.0 for name, has in room.items()}
    return NodeRow(
        name=node.name,
        pod=node.podname,
        endpoint=node.endpoint,
        state=state,
        cpu=share["cpu"],
        memory=share["memory"],
        text=f"{node.name} {node.podname} {node.endpoint} {state}".lower(),
    )


class Cluster:
    """Everything. `version` grows with each change; `complete`: the first listing has ended."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.nodes: dict[str, NodeRow] = {}
        self.pods: dict[str, str] = {}
        self.version = 0
        self.complete = False
        self.trouble = ""
        self._listing = 0

    def begin_listing(self) -> None:
        """What is not put again until `end_listing` is gone."""
        self._listing += 1

    def put(self, workloads: Iterable[pb.Workload]) -> None:
        """Add or change instances of a listing. What an event told meanwhile is newer and stays."""
        for workload in workloads:
            known = self.instances.get(workload.id)
            if known is not None and known.told == self._listing:
                known.seen = self._listing
            else:
                self.instances[workload.id] = instance(workload, self._listing)
        self.version += 1

    def end_listing(self) -> None:
        gone = [id_ for id_, each in self.instances.items() if each.seen != self._listing]
        for id_ in gone:
            del self.instances[id_]
        self.complete = True
        self.version += 1

    def changed(self, event: pb.WorkloadStatusStreamMessage) -> None:
        """One report of an agent, or the end of one. A record that is gone comes without its workload."""
        if event.HasField("workload"):
            told = self.instances[event.id] = instance(event.workload, self._listing)
            told.told = self._listing
            if event.delete:  # the report has expired; the workload is still recorded
                told.state = "unreported"
            self.version += 1
        elif event.delete:
            self.drop(event.id)

    def drop(self, id_: str) -> None:
        if self.instances.pop(id_, None) is not None:
            self.version += 1

    def put_nodes(self, nodes: Iterable[pb.Node]) -> None:
        """All nodes there are."""
        self.nodes = {node.name: node_row(node) for node in nodes}
        self.version += 1

    def put_pods(self, pods: Iterable[pb.Pod]) -> None:
        """All pods there are."""
        self.pods = {pod.name: pod.desc for pod in pods}
        self.version += 1

    def node_beats(self, name: str, alive: bool) -> None:
        """A heartbeat began or ended."""
        row = self.nodes.get(name)
        if row is not None and row.state != "bypassed":
            self.nodes[name] = msgspec.structs.replace(row, state="up" if alive else "down")
            self.version += 1
