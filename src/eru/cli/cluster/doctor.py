"""`eru doctor`: what works, what does not, and the cure of each."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import click

from eru.cli.exits import Exit
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.resources import opened
from eru.cli.show.talk import GREEN, RED, YELLOW, counted, wants_colour
from eru.model.errors import CoreUnreachable, EruError, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

DOCKER_SOCKET = "/var/run/docker.sock"
ANSWER_S = 10.0
SLOW_CORE_MS = 200.0
SLOW_DOCKER_S = 5.0
DISK_FREE_MIN = 0.05


@dataclass(frozen=True)
class Finding:
    """One line. `state`: ok, warn or bad; `cure` for the last two."""

    state: str
    text: str
    cure: str = ""


@verb("doctor", examples="eru doctor\neru doctor && echo all is well")
@click.option("--docker", default=DOCKER_SOCKET, show_default=True, help="The Docker socket of this machine.")
async def doctor(session: Session, docker: str) -> int:
    """Check core, its store, nodes, agents, and Docker here. Exit code 1 if something is broken."""
    found: list[Finding] = []
    async for finding in _checks(session, docker):
        found.append(finding)
        if session.tables:
            _print(session, finding)
    if not session.tables:
        session.show(
            [{"state": each.state, "text": each.text, "cure": each.cure} for each in found],
            str,
            [each.text for each in found if each.state != "ok"],
        )
    bad = sum(each.state == "bad" for each in found)
    warned = sum(each.state == "warn" for each in found)
    session.talk.say(f"{counted(len(found), 'check')}: {bad} broken, {warned} to look at")
    return Exit.ERROR if bad else Exit.OK


def _print(session: Session, finding: Finding) -> None:
    mark, colour = {"ok": ("✓", GREEN), "warn": ("!", YELLOW), "bad": ("✗", RED)}[finding.state]
    if wants_colour(sys.stdout):
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    session.write(f"{mark} {finding.text}\n")
    if finding.cure:
        session.write(f"    cure: {finding.cure}\n")


async def _checks(session: Session, docker: str) -> AsyncIterator[Finding]:
    yield await _docker(docker)
    yield _disk()
    core = await _core(session)
    yield core
    if core.state == "bad":
        return
    store = await _store(session)
    yield store
    if store.state == "bad":
        return
    async for finding in _nodes(session):
        yield finding


async def _docker(path: str) -> Finding:
    """Whether the engine of this machine answers; a machine without one may still be a client."""
    try:
        async with asyncio.timeout(SLOW_DOCKER_S):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = await reader.readline()
            writer.close()
    except FileNotFoundError:
        return Finding("warn", f"no Docker socket at {path}", "apt-get install docker.io, if this machine is a node")
    except PermissionError:
        return Finding(
            "bad", f"no permission on {path}", "run as root, or: usermod -aG docker $USER, then log in again"
        )
    except TimeoutError:
        return Finding("bad", f"Docker does not answer at {path} within {SLOW_DOCKER_S:g}s", "restart dockerd")
    except OSError as error:
        return Finding("bad", f"Docker at {path}: {error.strerror or error}", "start it: service docker start")
    if b" 200 " not in answer:
        return Finding(
            "bad", f"Docker at {path} answers {answer.decode('latin-1').strip()!r}", "see the log of dockerd"
        )
    return Finding("ok", f"Docker answers at {path}")


def _disk() -> Finding:
    place = "/var/lib/docker" if os.path.isdir("/var/lib/docker") else "/"
    usage = shutil.disk_usage(place)
    free = usage.free / usage.total
    if free < DISK_FREE_MIN:
        cure = "docker system prune, or a larger disk"
        return Finding("warn", f"disk of {place} is {1 - free:.0%} full on {socket.gethostname()}", cure)
    return Finding("ok", f"disk of {place} has {free:.0%} free")


async def _core(session: Session) -> Finding:
    clock = session.world.clock
    started = clock.monotonic()
    try:
        info = await session.unary(rpc.Info, pb.Empty(), timeout_s=ANSWER_S)
    except CoreUnreachable as error:
        return Finding("bad", str(error), "eru up on one machine; eru core on a server; or set ERU to its address")
    except RemoteError as error:
        return Finding("bad", f"core at {session.settings.eru}: {error}", "check --username and --password")
    took = (clock.monotonic() - started) * 1000
    text = f"core {info.version} answers at {session.settings.eru} in {took:.0f} ms"
    return Finding("warn", text, "core or this machine is busy") if took > SLOW_CORE_MS else Finding("ok", text)


async def _store(session: Session) -> Finding:
    clock = session.world.clock
    started = clock.monotonic()
    try:
        pods = (await session.unary(rpc.ListPods, pb.Empty(), timeout_s=ANSWER_S)).pods
    except EruError as error:
        return Finding("bad", f"core cannot read its store: {error}", "check that the store of core runs and has room")
    took = (clock.monotonic() - started) * 1000
    if not pods:
        return Finding("warn", f"the store answers in {took:.0f} ms; there is no pod yet", "eru pod add NAME")
    return Finding("ok", f"the store answers in {took:.0f} ms; {counted(len(pods), 'pod')}")


async def _nodes(session: Session) -> AsyncIterator[Finding]:
    try:
        asked = pb.ListNodesOptions(all=True, timeout_in_second=int(ANSWER_S))
        nodes = await session.collect(rpc.ListPodNodes, asked, timeout_s=ANSWER_S * 2)
    except EruError as error:
        yield Finding("bad", f"nodes cannot be listed: {error}", "see the log of core")
        return
    if not nodes:
        yield Finding("warn", "there is no node yet", "eru node add POD --endpoint unix:///var/run/docker.sock")
    for node in sorted(nodes, key=lambda each: each.name):
        alive = await _alive(session, node)
        yield _node(node, alive)
        if alive or node.test:
            async for finding in _books(session, node):
                yield finding


async def _alive(session: Session, node: pb.Node) -> bool:
    """Whether its agent reports; the listing also calls nodes without a working engine unavailable."""
    if node.test:
        return True
    try:
        asked = pb.GetNodeStatusOptions(nodename=node.name)
        return (await session.unary(rpc.GetNodeStatus, asked, timeout_s=ANSWER_S)).alive
    except EruError:
        return False


def _node(node: pb.Node, alive: bool) -> Finding:
    label = f"node {node.name} of pod {node.podname}"
    if not alive:
        return Finding("bad", f"{label}: no heartbeat", f"start the agent on {node.name}: eru agent")
    if not node.available and not node.bypass:
        reason = node.info if node.info and not node.info.startswith("{") else "its engine does not answer"
        return Finding("bad", f"{label}: {reason}", f"check Docker on {node.name} and the address {node.endpoint}")
    if node.bypass:
        return Finding("warn", f"{label} takes no workloads", f"eru node up {node.name}")
    return Finding("ok", f"{label} is up")


async def _books(session: Session, node: pb.Node) -> AsyncIterator[Finding]:
    """Whether what is granted adds up, and whether the node is full."""
    try:
        asked = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=node.name))
        found = await session.unary(rpc.GetNodeResource, asked, timeout_s=ANSWER_S)
    except EruError as error:
        yield Finding("bad", f"node {node.name}: its resources cannot be checked: {error}", "see the log of core")
        return
    if found.diffs:
        more = f" (and {len(found.diffs) - 1} more)" if len(found.diffs) > 1 else ""
        yield Finding("bad", f"node {node.name}: {found.diffs[0]}{more}", f"eru node resource {node.name} --fix")
    elif not opened(found.resource_capacity):
        yield Finding("warn", f"node {node.name} has no resources", f"eru node set {node.name} --cpu N --memory SIZE")
