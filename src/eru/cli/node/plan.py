"""`eru node set --dry-run`: what would be different on a node, and what that means for what runs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eru.cli.exits import Exit, Problem, human_bytes
from eru.cli.parse import size
from eru.cli.session import Session
from eru.cli.show import changes
from eru.cli.show.changes import Change
from eru.cli.show.resources import opened
from eru.cli.show.talk import counted
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

_BOOKS = "live, for what is placed from now on"


async def show(session: Session, asked: pb.SetNodeOptions, values: dict[str, Any]) -> int:
    """The changes; raises Problem when core would refuse them."""
    node = await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=asked.nodename))
    running = len((await session.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename=node.name))).workloads)
    found = differences(node, asked, values, running)
    session.show(changes.data(found), lambda: changes.table(found))
    if wrong := _refused(node, values, delta=asked.delta):
        raise Problem(
            "this change would be refused", why=wrong, code=Exit.REFUSED, hint=f"eru node workloads {node.name}"
        )
    if not found:
        session.talk.say(f"nothing to do: node {node.name} is so already")
        return Exit.OK
    session.talk.say(f"{counted(len(found), 'field')} of node {node.name} would change; nothing was changed")
    return Exit.OK


def differences(node: pb.Node, asked: pb.SetNodeOptions, values: dict[str, Any], running: int) -> list[Change]:
    """Field by field; `running`: workloads of the node."""
    capacity = opened(node.resource_capacity)
    out = []
    if asked.endpoint:
        out.append(Change("endpoint", node.endpoint, asked.endpoint, "core connects anew; what runs goes on"))
    if asked.labels:
        now, then = (
            changes.words([f"{key}={value}" for key, value in each.items()]) for each in (node.labels, asked.labels)
        )
        out.append(Change("labels", now, then, f"all replaced; {_BOOKS}"))
    if asked.ca or asked.cert or asked.key:
        out.append(Change("certificates", "kept secret", "those given", "core connects anew; what runs goes on"))
    if asked.workloads_down:
        out.append(Change("statuses", counted(running, "workload"), "down", "reported as down until an agent reports"))
    for what, kind in (("memory", "cpumem"), ("storage", "storage")):
        if values.get(what):
            now = capacity.get(kind, {}).get(what, 0)
            wanted = size(f"--{what}", values[what]) + (now if asked.delta else 0)
            out.append(Change(what, human_bytes(now), human_bytes(wanted), _BOOKS))
    if values.get("cpu"):
        cores = capacity.get("cpumem", {}).get("cpu", 0)
        text = str(values["cpu"])
        plain = text.lstrip("-").isdigit()
        then = f"{int(text) + (cores if asked.delta else 0):g}" if plain else f"{text}{' more' if asked.delta else ''}"
        out.append(Change("cpu", f"{cores:g}", then, _BOOKS))
    for option in ("numa_cpu", "numa_memory", "volume", "disk", "rm_disk", "share", "extra_resources"):
        if values.get(option):
            given = values[option]
            text = changes.words([str(each) for each in given]) if isinstance(given, tuple) else str(given)
            out.append(Change(option.replace("_", "-"), "", text, _BOOKS))
    return [each for each in out if each.real]


def _pairs(labels: Mapping[str, str]) -> str:
    return changes.words([f"{key}={value}" for key, value in labels.items()])


def _refused(node: pb.Node, values: dict[str, Any], *, delta: bool) -> list[str]:
    """What would be less than is in use."""
    capacity, used = opened(node.resource_capacity), opened(node.resource_usage)
    out = []
    for what, kind in (("memory", "cpumem"), ("storage", "storage")):
        if values.get(what):
            then = size(f"--{what}", values[what]) + (capacity.get(kind, {}).get(what, 0) if delta else 0)
            in_use = used.get(kind, {}).get(what, 0)
            if then < in_use:
                out.append(f"{what} would be {human_bytes(then)}, {human_bytes(in_use)} are in use")
    return out
