"""The lists of the screen: what rows there are, and how one row looks. Only rows in sight are ever made into text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import msgspec

from eru.cli.resolve import short
from eru.cli.show import times
from eru.cli.tui.cluster import RANKS, Cluster, Instance, NodeRow
from eru.cli.tui.screen import DIM, GREEN, PLAIN, RED, YELLOW

STYLES = {
    "healthy": GREEN,
    "running": YELLOW,
    "stopped": RED,
    "unreported": DIM,
    "down": RED,
    "bypassed": YELLOW,
    "up": GREEN,
}


class Row(msgspec.Struct, frozen=True):
    """`kind`: instance, node, app or pod; `key`: its id or name."""

    kind: str
    key: str
    cells: list[str]
    style: int = PLAIN


class View:
    """One list. `items` are cheap; `row` makes text of one."""

    name: ClassVar[str] = ""
    heads: ClassVar[list[str]] = []
    orders: ClassVar[list[str]] = ["name"]

    def __init__(self, only: str = "") -> None:
        self.only = only  # an app, `app/entry`, or `@node`

    @property
    def title(self) -> str:
        return f"{self.name}{f' of {self.only.removeprefix(chr(64))}' if self.only else ''}"

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        """What matches the filter, in order."""
        raise LookupError(self.name)

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        """Text of one item."""
        raise LookupError(self.name)


def wanted(cluster: Cluster, only: str, words: str) -> Iterable[Instance]:
    """Instances of an app, an entrypoint or a node that carry all words of a filter."""
    parts = words.lower().split()
    found: Iterable[Instance] = cluster.instances.values()
    if only.startswith("@"):
        node = only[1:]
        found = [each for each in found if each.node == node]
    elif only:
        app, _, entry = only.partition("/")
        found = [each for each in found if each.app == app and entry in ("", each.entry)]
    for part in parts:
        found = [each for each in found if part in each.text or each.id.startswith(part)]
    return found


_ORDERS: dict[str, Callable[[Instance], object]] = {
    "name": lambda each: (each.name, each.id),
    "state": lambda each: (RANKS.get(each.state, 0), each.name),
    "node": lambda each: (each.node, each.name),
    "age": lambda each: (-each.created, each.name),
}


class Instances(View):
    name = "workloads"
    heads = ["NAME", "ID", "NODE", "STATE", "AGE", "ADDRESSES", "IMAGE"]
    orders = list(_ORDERS)

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        return sorted(wanted(cluster, self.only, words), key=_ORDERS[order])  # type: ignore[arg-type]

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        assert isinstance(item, Instance)
        age = times.duration(now_s - item.created) if item.created else "-"
        cells = [item.name, short(item.id), item.node, item.state, age, item.addresses, item.image]
        return Row("instance", item.id, cells, STYLES.get(item.state, PLAIN))


class Nodes(View):
    name = "nodes"
    heads = ["NODE", "POD", "STATE", "CPU", "MEMORY", "WORKLOADS", "HEALTHY", "ENDPOINT"]
    orders = ["name", "state", "cpu", "memory"]

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        self._count(cluster)
        parts = words.lower().split()
        rows = [each for each in cluster.nodes.values() if self.only in ("", each.pod)]
        rows = [each for each in rows if all(part in each.text for part in parts)]
        keys: dict[str, Callable[[NodeRow], object]] = {
            "name": lambda each: each.name,
            "state": lambda each: ({"down": 0, "bypassed": 1}.get(each.state, 2), each.name),
            "cpu": lambda each: (-each.cpu, each.name),
            "memory": lambda each: (-each.memory, each.name),
        }
        return sorted(rows, key=keys[order])  # type: ignore[arg-type]

    def _count(self, cluster: Cluster) -> None:
        self._all: dict[str, int] = {}
        self._healthy: dict[str, int] = {}
        for each in cluster.instances.values():
            self._all[each.node] = self._all.get(each.node, 0) + 1
            if each.state == "healthy":
                self._healthy[each.node] = self._healthy.get(each.node, 0) + 1

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        assert isinstance(item, NodeRow)
        counts = [str(self._all.get(item.name, 0)), str(self._healthy.get(item.name, 0))]
        cells = [item.name, item.pod, item.state, f"{item.cpu:.0%}", f"{item.memory:.0%}", *counts, item.endpoint]
        return Row("node", item.name, cells, PLAIN if item.state == "up" else STYLES[item.state])


class Group(msgspec.Struct):
    """Instances counted together. `depth` and `of` are for trees."""

    key: str
    all: int = 0
    healthy: int = 0
    running: int = 0
    nodes: set[str] = msgspec.field(default_factory=set)

    def add(self, each: Instance) -> None:
        self.all += 1
        self.healthy += each.state == "healthy"
        self.running += each.state in ("healthy", "running")
        self.nodes.add(each.node)

    @property
    def style(self) -> int:
        return GREEN if self.healthy == self.all else YELLOW if self.running else RED


def grouped(found: Iterable[Instance], key: Callable[[Instance], str]) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for each in found:
        name = key(each)
        group = groups.get(name)
        if group is None:
            group = groups[name] = Group(name)
        group.add(each)
    return groups


class Apps(View):
    name = "apps"
    heads = ["APP", "INSTANCES", "RUNNING", "HEALTHY", "NODES"]
    orders = ["name", "state", "size"]

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        groups = grouped(wanted(cluster, self.only, words), lambda each: f"{each.app}/{each.entry}").values()
        keys: dict[str, Callable[[Group], object]] = {
            "name": lambda each: each.key,
            "state": lambda each: (each.healthy == each.all, each.healthy / max(each.all, 1), each.key),
            "size": lambda each: (-each.all, each.key),
        }
        return sorted(groups, key=keys[order])  # type: ignore[arg-type]

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        assert isinstance(item, Group)
        counts = [str(item.all), str(item.running), str(item.healthy), str(len(item.nodes))]
        return Row("app", item.key, [item.key, *counts], item.style)


class Pods(View):
    name = "pods"
    heads = ["POD", "NODES", "UP", "WORKLOADS", "HEALTHY", "DESCRIPTION"]

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        self._groups = grouped(cluster.instances.values(), lambda each: each.pod)
        return sorted(name for name in cluster.pods if all(part in name.lower() for part in words.lower().split()))

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        name = str(item)
        nodes = [each for each in cluster.nodes.values() if each.pod == name]
        up = sum(each.state == "up" for each in nodes)
        counts = self._groups.get(name, Group(name))
        cells = [name, str(len(nodes)), str(up), str(counts.all), str(counts.healthy), cluster.pods.get(name, "")]
        return Row("pod", name, cells, PLAIN if up == len(nodes) else YELLOW)


class Tree(View):
    """App, its instances, and the node of each; `open` are the apps whose instances are shown."""

    name = "tree"
    heads = ["APP / INSTANCE / NODE", "STATE", "AGE", "ADDRESSES"]

    def __init__(self, only: str = "") -> None:
        super().__init__(only)
        self.open: set[str] = set()

    def items(self, cluster: Cluster, words: str, order: str) -> Sequence[object]:
        found = list(wanted(cluster, self.only, words))
        groups = grouped(found, lambda each: each.app)
        shown: list[object] = []
        of_app: dict[str, list[Instance]] = {}
        for each in found:
            if each.app in self.open:
                of_app.setdefault(each.app, []).append(each)
        for name in sorted(groups):
            shown.append(groups[name])
            for each in sorted(of_app.get(name, ()), key=lambda each: each.name):
                shown.append(each)
                shown.append((each.node, each.id))
        return shown

    def toggle(self, app: str) -> None:
        """Open or close an app."""
        self.open ^= {app}

    def row(self, cluster: Cluster, item: object, now_s: float) -> Row:
        if isinstance(item, Group):
            mark = "▾" if item.key in self.open else "▸"
            cells = [f"{mark} {item.key}  ({item.all})", f"{item.healthy} of {item.all} healthy", "", ""]
            return Row("app", item.key, cells, item.style)
        if isinstance(item, Instance):
            age = times.duration(now_s - item.created) if item.created else "-"
            return Row("instance", item.id, [f"   {item.name}", item.state, age, item.addresses], STYLES[item.state])
        assert isinstance(item, tuple)
        node = cluster.nodes.get(item[0])
        told = f"{node.state}, cpu {node.cpu:.0%}, memory {node.memory:.0%}" if node else ""
        return Row("node", item[0], [f"      └ {item[0]}", told, "", ""], DIM)


VIEWS: dict[str, type[View]] = {view.name: view for view in (Instances, Apps, Tree, Nodes, Pods)}
