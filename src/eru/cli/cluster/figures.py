"""What instances and nodes use, made from two looks at their counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from eru.cli.exits import human_bytes
from eru.cli.show.resources import opened
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `cpu` in cores; rates in bytes per second; `cpu_limit` and `memory_limit` 0: none is known."""

    name: str
    id: str = ""
    node: str = ""
    cpu: float = 0.0
    cpu_limit: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    received: float = 0.0
    sent: float = 0.0
    processes: int = 0
    instances: int = 1
    error: str = ""

    @property
    def cpu_share(self) -> float:
        return self.cpu / self.cpu_limit if self.cpu_limit else 0.0

    @property
    def memory_share(self) -> float:
        return self.memory / self.memory_limit if self.memory_limit else 0.0


class Meter:
    """Remembers the last look at each workload, to tell rates."""

    def __init__(self) -> None:
        self._before: dict[str, v1.Stat] = {}

    def take(self, stats: Iterable[v1.Stat], cores: Mapping[str, float]) -> list[Use]:
        """A row per workload; rates are 0 at its first look. `cores`: granted to it, by id; 0 or absent: no limit."""
        now = {stat.id: stat for stat in stats}
        rows = [self._use(stat, cores.get(id_, 0.0)) for id_, stat in now.items()]
        self._before = now
        return rows

    def _use(self, stat: v1.Stat, cores: float) -> Use:
        before = self._before.get(stat.id)
        span_s = (stat.time_ns - before.time_ns) / 1e9 if before is not None else 0.0

        def rate(now: int, then: int) -> float:
            return (now - then) / span_s if now > then else 0.0

        running = before is not None and span_s > 0 and not stat.error and not before.error
        return Use(
            name=stat.name,
            id=stat.id,
            node=stat.nodename,
            cpu=rate(stat.cpu_ns, before.cpu_ns) / 1e9 if running and before is not None else 0.0,
            cpu_limit=cores,
            memory=stat.memory,
            memory_limit=stat.memory_limit,
            received=rate(stat.received, before.received) if running and before is not None else 0.0,
            sent=rate(stat.sent, before.sent) if running and before is not None else 0.0,
            processes=stat.processes,
            error=stat.error,
        )


def per_node(rows: Iterable[Use], nodes: Iterable[pb.Node]) -> list[Use]:
    """A row per node: the sum of its instances, beside what the node has for workloads."""
    of_node: dict[str, list[Use]] = {}
    for row in rows:
        of_node.setdefault(row.node, []).append(row)
    return [_node(node, of_node.get(node.name, [])) for node in nodes]


def _node(node: pb.Node, rows: Sequence[Use]) -> Use:
    has = opened(node.resource_capacity).get("cpumem", {})
    broken = sorted({row.error for row in rows if row.error})
    return Use(
        name=node.name,
        node=node.name,
        cpu=sum(row.cpu for row in rows),
        cpu_limit=float(has.get("cpu") or 0),
        memory=sum(row.memory for row in rows),
        memory_limit=int(has.get("memory") or 0),
        received=sum(row.received for row in rows),
        sent=sum(row.sent for row in rows),
        processes=sum(row.processes for row in rows),
        instances=len(rows),
        error=broken[0] if broken else "",
    )


ORDERS: dict[str, Callable[[Use], object]] = {
    "cpu": lambda row: (-row.cpu, row.name),
    "memory": lambda row: (-row.memory, row.name),
    "network": lambda row: (-row.received - row.sent, row.name),
    "name": lambda row: row.name,
    "node": lambda row: (row.node, row.name),
}


def ordered(rows: Iterable[Use], order: str, *, backwards: bool = False) -> list[Use]:
    """Sorted by what matters: the largest first, names from A on."""
    return sorted(rows, key=ORDERS[order], reverse=backwards)  # type: ignore[arg-type]


HEADS = ["NAME", "NODE", "CPU", "CPU%", "MEMORY", "MEM%", "IN/S", "OUT/S", "PIDS"]
NODE_HEADS = ["NODE", "INSTANCES", "CPU", "CPU%", "MEMORY", "MEM%", "IN/S", "OUT/S", "PIDS"]


def cells(row: Use, *, node: bool = False) -> list[str]:
    """One row as text, for either head."""
    second = str(row.instances) if node else row.node
    if row.error:
        return [row.name, second, "?", "", "?", "", "", "", ""]
    return [
        row.name,
        second,
        f"{row.cpu:.2f}",
        f"{row.cpu_share:.0%}" if row.cpu_limit else "-",
        human_bytes(row.memory),
        f"{row.memory_share:.0%}" if row.memory_limit else "-",
        human_bytes(int(row.received)),
        human_bytes(int(row.sent)),
        str(row.processes),
    ]
