"""`eru pod status`: how pods are, what is wrong first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from eru.cli import names
from eru.cli.exits import Exit, human_bytes
from eru.cli.lazy import verb
from eru.cli.pod.nodes import fetch
from eru.cli.session import Session
from eru.cli.show.columns import Column
from eru.cli.show.health import PROBLEMS_SHOWN_MAX, RESOURCES, Problem, Room, node_state, problems, rooms
from eru.cli.show.table import render
from eru.cli.show.talk import RED, YELLOW, wants_colour
from eru.cli.workload.health import state_of
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

LISTING_S = 10


@verb(
    "status",
    watch=True,
    examples="eru pod status\neru pod status prod           its nodes one by one\neru pod status --watch",
)
@click.argument("name", required=False, default="", shell_complete=names.pods)
async def status(session: Session, name: str) -> int:
    """How a pod is, or all: what is wrong, nodes, room, and how many workloads run and are healthy."""
    async with names.naming(session, "pod", name):
        if name:
            pods = [await session.unary(rpc.GetPod, pb.GetPodOptions(name=name))]
        else:
            pods = sorted((await session.unary(rpc.ListPods, pb.Empty())).pods, key=lambda pod: pod.name)
        nodes = await fetch(session, name, state="all", labels={}, timeout=LISTING_S, info=False)
    on_node = await _workloads(session, {node.name for node in nodes})
    found = problems(nodes, on_node)
    if session.tables:
        _tell(session, found)
    summaries = [_summary(pod.name, [each for each in nodes if each.podname == pod.name], on_node) for pod in pods]
    for each in summaries:
        each["problems"] = [problem.text for problem in problems(each.pop("of"), on_node)]
    _table(session, summaries, *_pods(summaries))
    if name and session.tables and nodes and session.intercept is None:
        session.write("\n" if session.screen else "")
        _table(session, None, *_nodes(nodes, on_node))
    if not nodes:
        session.talk.say("no node yet")
        session.talk.next(f"eru node add {name or 'POD'} --endpoint unix:///var/run/docker.sock")
    elif found:
        session.talk.next("eru doctor")
    return Exit.OK


async def _workloads(session: Session, nodes: set[str]) -> dict[str, list[pb.Workload]]:
    """By node; all in one listing, which is cheaper than one per node."""
    found: dict[str, list[pb.Workload]] = {}
    async for each in session.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions()):
        if each.nodename in nodes:
            found.setdefault(each.nodename, []).append(each)
    for here in found.values():
        here.sort(key=lambda each: (each.name, each.id))
    return found


def _tell(session: Session, found: Sequence[Problem]) -> None:
    colour = wants_colour(sys.stdout)
    for each in found[:PROBLEMS_SHOWN_MAX]:
        mark, paint = ("✗", RED) if each.severity == "bad" else ("!", YELLOW)
        session.write(f"\x1b[{paint}m{mark}\x1b[0m {each.text}\n" if colour else f"{mark} {each.text}\n")
    if len(found) > PROBLEMS_SHOWN_MAX:
        session.write(f"  and {len(found) - PROBLEMS_SHOWN_MAX} more\n")


def _summary(pod: str, nodes: Sequence[pb.Node], on_node: Mapping[str, Sequence[pb.Workload]]) -> dict[str, Any]:
    states = [node_state(node) for node in nodes]
    room = dict.fromkeys(RESOURCES, Room())
    for node in nodes:
        for name, has in rooms(node).items():
            room[name] += has
    counts = _counts(each for node in nodes for each in on_node.get(node.name, ()))
    return {
        "pod": pod,
        "nodes": {"all": len(nodes), **{word: states.count(word) for word in ("up", "down", "bypassed")}},
        "resources": {
            name: {"capacity": has.capacity, "used": round(has.used, 6), "free": round(has.free, 6)}
            for name, has in room.items()
        },
        "workloads": counts,
        "of": nodes,
    }


def _counts(workloads: Iterable[pb.Workload]) -> dict[str, int]:
    states = [state_of(each.status) for each in workloads]
    healthy = states.count("healthy")
    return {"all": len(states), "running": healthy + states.count("running"), "healthy": healthy}


def _table(session: Session, data: Any, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Boxed where piped, fitted on a terminal; the first column is the name."""

    def columns() -> list[Column]:
        keep = {heads[0]: 9, "DOWN": 8, "HEALTHY": 8, "STATE": 8, "RUNNING": 7}
        return [
            Column(head.upper(), [row[at] for row in rows], matters=keep.get(head, 5)) for at, head in enumerate(heads)
        ]

    names = [row[0] for row in rows]
    session.show(data, lambda: render(heads, [[[cell] for cell in row] for row in rows]), names, columns)


def _pods(summaries: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    kinds = [name for name in RESOURCES if any(each["resources"][name]["capacity"] for each in summaries)]
    heads = ["POD", "NODES", "UP", "DOWN", "BYPASSED", *kinds, "WORKLOADS", "RUNNING", "HEALTHY"]
    records = []
    for each in summaries:
        nodes, counts = each["nodes"], each["workloads"]
        room = [
            _share(name, Room(**{key: each["resources"][name][key] for key in ("capacity", "used")})) for name in kinds
        ]
        records.append([str(cell) for cell in (each["pod"], *nodes.values(), *room, *counts.values())])
    return heads, records


def _nodes(nodes: Sequence[pb.Node], on_node: Mapping[str, Sequence[pb.Workload]]) -> tuple[list[str], list[list[str]]]:
    kinds = [name for name in RESOURCES if any(rooms(node)[name].capacity for node in nodes)]
    heads = ["NODE", "STATE", *kinds, "WORKLOADS", "RUNNING", "HEALTHY"]
    order = {"down": 0, "bypassed": 1, "up": 2}
    records = []
    for node in sorted(nodes, key=lambda node: (order[node_state(node)], node.name)):
        room = [_share(name, rooms(node)[name]) for name in kinds]
        counts = _counts(on_node.get(node.name, ())).values()
        records.append([str(cell) for cell in (node.name, node_state(node), *room, *counts)])
    return heads, records


def _share(name: str, room: Room) -> str:
    """`3 of 8 (38%)`: given away, of what there is."""
    if not room.capacity:
        return "-"

    def shown(number: float) -> str:
        return f"{number:g}" if name == "cpu" else human_bytes(number)

    return f"{shown(room.used)} of {shown(room.capacity)} ({room.used / room.capacity:.0%})"
