"""What is wrong with nodes and workloads, in words: problems first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eru.cli.resolve import short
from eru.cli.show.resources import opened
from eru.cli.show.talk import counted
from eru.cli.workload.health import state_of
from eru.wire import core_pb2 as pb

PROBLEMS_SHOWN_MAX = 20  # lines; more are counted


class Problem(msgspec.Struct, frozen=True):
    """`severity`: bad or warn."""

    severity: str
    text: str


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a resource there is and how much is given away; cores, or bytes."""

    capacity: float = 0
    used: float = 0

    def __add__(self, other: Room) -> Room:
        return Room(capacity=self.capacity + other.capacity, used=self.used + other.used)

    @property
    def free(self) -> float:
        return self.capacity - self.used


RESOURCES: dict[str, tuple[str, str]] = {  # what it is called -> kind and key of the resource JSON
    "cpu": ("cpumem", "cpu"),
    "memory": ("cpumem", "memory"),
    "storage": ("storage", "storage"),
}


def rooms(node: pb.Node) -> dict[str, Room]:
    """By resource."""
    capacity, used = opened(node.resource_capacity), opened(node.resource_usage)
    return {
        name: Room(capacity=_number(capacity.get(kind, {}).get(key)), used=_number(used.get(kind, {}).get(key)))
        for name, (kind, key) in RESOURCES.items()
    }


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0


def node_state(node: pb.Node) -> str:
    """`up`, `down`, or `bypassed` (which may be down as well: nothing new gets there either way)."""
    if node.bypass:
        return "bypassed"
    return "up" if node.available or node.test else "down"


def problems(nodes: Iterable[pb.Node], workloads: Mapping[str, Sequence[pb.Workload]]) -> list[Problem]:
    """Worst first: nodes that are down, then workloads by node, then nodes that are taken out."""
    down, ill, out = [], [], []
    for node in nodes:
        here = workloads.get(node.name, ())
        state = node_state(node)
        if state == "down":
            down.append(Problem("bad", f"node {node.name} is down; {counted(len(here), 'workload')} on it"))
            continue
        if state == "bypassed":
            out.append(Problem("warn", f"node {node.name} takes no workloads; {len(here)} left on it"))
        for each in here:
            word = state_of(each.status)
            if word != "healthy":
                words = {"running": "is not healthy", "stopped": "has stopped", "unreported": "was never reported"}
                severity = "warn" if word == "unreported" else "bad"
                ill.append(Problem(severity, f"{each.name} ({short(each.id)}) on {node.name} {words[word]}"))
    return [*down, *sorted(ill, key=lambda each: each.severity), *out]
