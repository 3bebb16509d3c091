"""The lists of the nouns as columns: what a terminal shows, and `-o wide`.

Sorted by what matters: what is down or ill comes first, then by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eru.cli.exits import human_bytes
from eru.cli.resolve import short
from eru.cli.show import times
from eru.cli.show.columns import Column
from eru.cli.show.health import node_state, rooms
from eru.cli.show.resources import opened
from eru.cli.show.tables import addresses
from eru.cli.show.talk import DIM, GREEN, RED, YELLOW
from eru.cli.workload.health import state_of
from eru.wire import core_pb2 as pb

_COLOURS = {
    "up": GREEN,
    "bypassed": YELLOW,
    "down": RED,
    "healthy": GREEN,
    "running": YELLOW,
    "stopped": RED,
    "unreported": DIM,
}
_WORST_FIRST = {"down": 0, "stopped": 0, "running": 1, "unreported": 2, "bypassed": 3}
_FULL, _NEARLY = 0.95, 0.8  # shares of a resource from where a colour says so
NS = 1_000_000_000


def pods(found: Sequence[pb.Pod]) -> list[Column]:
    """By name."""
    return [
        Column("NAME", [each.name for each in found], matters=9),
        Column("DESCRIPTION", [each.desc for each in found], least=12),
    ]


def nodes(found: Sequence[pb.Node]) -> list[Column]:
    """What is down first."""
    found = sorted(found, key=lambda each: (_WORST_FIRST.get(node_state(each), 9), each.name))
    room = [rooms(each) for each in found]

    def used(what: str, number: Callable[[float], str]) -> list[str]:
        shares = [each[what] for each in room]
        return [
            f"{number(each.used)}/{number(each.capacity)} {each.used / each.capacity:.0%}" if each.capacity else ""
            for each in shares
        ]

    return [
        Column("NAME", [each.name for each in found], matters=9),
        Column("POD", [each.podname for each in found], matters=6, least=8),
        Column("STATE", [node_state(each) for each in found], matters=9, colour=state_colour),
        Column("CPU", used("cpu", "{:g}".format), matters=8, right=True, colour=share_colour),
        Column("MEMORY", used("memory", human_bytes), matters=8, right=True, colour=share_colour),
        Column("STORAGE", used("storage", human_bytes), matters=4, right=True, colour=share_colour),
        Column("ENDPOINT", [each.endpoint for each in found], matters=3, least=16),
        Column("LABELS", [_pairs(each.labels) for each in found], matters=2, least=10),
        Column("TEST", ["yes" if each.test else "" for each in found], wide=True),
        Column("INFO", [" ".join(each.info.split()) for each in found], wide=True),
    ]


def workloads(found: Sequence[pb.Workload], *, now_s: float, utc: bool = False) -> list[Column]:
    """What is ill first. `now_s`: seconds since the epoch."""
    found = sorted(found, key=lambda each: (_WORST_FIRST.get(state_of(each.status), 9), each.name, each.id))
    bags = [opened(each.resources) for each in found]

    def granted(kind: str, key: str, number: Callable[[float], str]) -> list[str]:
        values = [bag.get(kind, {}).get(key) for bag in bags]
        return [number(value) if isinstance(value, (int, float)) and value else "" for value in values]

    def age(each: pb.Workload) -> str:
        if not each.create_time:
            return ""
        if utc:
            return times.utc(each.create_time * NS)
        return times.duration(now_s - each.create_time)

    return [
        Column("NAME", [each.name for each in found], matters=9, least=24),
        Column("ID", [each.id for each in found], matters=7, brief=short),
        Column("NODE", [each.nodename for each in found], matters=8, least=8),
        Column("POD", [each.podname for each in found], matters=2, least=6),
        Column("STATE", [state_of(each.status) for each in found], matters=9, colour=state_colour),
        Column("CPU", granted("cpumem", "cpu_limit", "{:g}".format), matters=4, right=True),
        Column("MEMORY", granted("cpumem", "memory_limit", human_bytes), matters=4, right=True),
        Column("AGE" if not utc else "CREATED", [age(each) for each in found], matters=5, right=not utc),
        Column("ADDRESSES", [addresses(each.publish, each.status.networks) for each in found], matters=6, least=16),
        Column("IMAGE", [each.image for each in found], matters=1, least=16),
        Column("LABELS", [_pairs(_own(each.labels)) for each in found], wide=True),
    ]


def _own(labels: dict[str, str] | object) -> dict[str, str]:
    """Labels without those that Eru puts there for itself."""
    given = dict(labels) if hasattr(labels, "items") else {}  # type: ignore[call-overload]
    return {key: value for key, value in given.items() if not key.lower().startswith("eru")}


def statuses(found: Sequence[pb.WorkloadStatus], named: dict[str, str]) -> list[Column]:
    """In the order they were asked for; `named`: id -> name where it is known."""
    return [
        Column("NAME", [named.get(each.id, "") for each in found], matters=8),
        Column("ID", [each.id for each in found], matters=9, brief=short),
        Column("STATE", [state_of(each) for each in found], matters=9, colour=state_colour),
        Column("NETWORKS", [_pairs(each.networks) for each in found], matters=5, least=16),
    ]


def images(found: Sequence[pb.ListImageMessage]) -> list[Column]:
    """A line per tag, then by node."""
    rows = sorted(
        (tag, each.nodename, image.id) for each in found for image in each.images for tag in list(image.tags) or [""]
    )
    return [
        Column("IMAGE", [tag or "<none>" for tag, _, _ in rows], matters=9, least=24),
        Column("NODE", [node for _, node, _ in rows], matters=8),
        Column("ID", [id_ for _, _, id_ in rows], matters=5, brief=_digest),
    ]


def _digest(id_: str) -> str:
    return id_.removeprefix("sha256:")[:12]


def _pairs(values: object) -> str:
    given = dict(values) if hasattr(values, "items") else {}  # type: ignore[call-overload]
    return " ".join(f"{key}={given[key]}" for key in sorted(given))


def state_colour(word: str) -> str:
    """Of a node's or workload's state."""
    return _COLOURS.get(word, "")


def share_colour(cell: str) -> str:
    """Of `3/4 75%`: nothing as long as there is room."""
    text = cell.rpartition(" ")[2].removesuffix("%")
    share = int(text) / 100 if text.isdigit() else 0.0
    return RED if share >= _FULL else YELLOW if share >= _NEARLY else ""
