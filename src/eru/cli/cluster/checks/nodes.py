"""The nodes: heartbeat, engine, books, clock, certificate; and how their workloads are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from eru.cli.cluster import history
from eru.cli.cluster.checks import certificates
from eru.cli.cluster.checks.finding import Finding, clock
from eru.cli.session import Session
from eru.cli.show import times
from eru.cli.show.resources import opened
from eru.cli.show.talk import counted
from eru.cli.workload.health import state_of
from eru.lib.tasks import map_bounded
from eru.model.errors import EruError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

ANSWER_S = 10.0
NODES_PARALLEL_MAX = 32  # looked at at the same time
CLOCKS_MAX = 200  # nodes whose clock and certificate are looked at
_MISSING = re.compile(r"workload (?P<id>\S+) inspect failed: (?P<why>.*)", re.DOTALL)
WELL_SHOWN_MAX = 20  # lines about nodes that are well; more become one


async def nodes(session: Session) -> list[Finding]:
    """All of them, by name; those that are well become one line when there are many."""
    try:
        asked = pb.ListNodesOptions(all=True, timeout_in_second=int(ANSWER_S))
        found = await session.collect(rpc.ListPodNodes, asked, timeout_s=ANSWER_S * 2)
    except EruError as error:
        return [Finding("bad", f"nodes cannot be listed: {error}", "see the log of core")]
    if not found:
        return [Finding("warn", "there is no node yet", "eru node add POD --endpoint unix:///var/run/docker.sock")]
    found.sort(key=lambda each: each.name)
    deep = {each.name for each in found[:CLOCKS_MAX]}

    async def one(node: pb.Node) -> list[Finding]:
        return await _one(session, node, deep=node.name in deep)

    told = [finding for each in await map_bounded(found, one, NODES_PARALLEL_MAX) for finding in each]
    well = [each for each in told if each.state == "ok"]
    if len(well) > WELL_SHOWN_MAX:
        return [*(each for each in told if each.state != "ok"), Finding("ok", f"{len(well)} other nodes are up")]
    return told


async def _one(session: Session, node: pb.Node, *, deep: bool) -> list[Finding]:
    alive = await _alive(session, node)
    found = [await _state(session, node, alive)]
    if alive or node.test:
        found += await _books(session, node)
    if deep and (alive or node.test):
        found += await _clock(session, node)
        found += await _certificate(session, node)
    return found


async def _alive(session: Session, node: pb.Node) -> bool:
    """Whether its agent reports; the listing also calls nodes without a working engine unavailable."""
    if node.test:
        return True
    try:
        asked = pb.GetNodeStatusOptions(nodename=node.name)
        return (await session.unary(rpc.GetNodeStatus, asked, timeout_s=ANSWER_S)).alive
    except EruError:
        return False


async def _state(session: Session, node: pb.Node, alive: bool) -> Finding:
    label = f"node {node.name} of pod {node.podname}"
    if not alive:
        text = f"{label}: no heartbeat{await _since(session, node.name)}"
        if node.info and not node.info.startswith("{"):  # an agent is silent while its engine is
            cure = f"check Docker on {node.name} and the address {node.endpoint}, then the agent there"
            return Finding("bad", f"{text}, and {node.info}", cure)
        return Finding("bad", text, f"start the agent on {node.name}: eru agent")
    if not node.available and not node.bypass:
        reason = node.info if node.info and not node.info.startswith("{") else "its engine does not answer"
        return Finding("bad", f"{label}: {reason}", f"check Docker on {node.name} and the address {node.endpoint}")
    if node.bypass:
        return Finding("warn", f"{label} takes no workloads", f"eru node up {node.name}")
    return Finding("ok", f"{label} is up")


async def _since(session: Session, name: str) -> str:
    """` for 3m5s`, if core remembers."""
    try:
        happened = await session.collect(rpc.Events, v1.EventsRequest(nodename=name), timeout_s=ANSWER_S)
    except EruError:
        return ""
    last = next((each for each in reversed(history.merged(happened)) if each.kind == "node-down"), None)
    if last is None:
        return ""
    return f" for {times.duration((session.world.clock.now_ns() - last.time_ns) / times.NS)}"


async def _books(session: Session, node: pb.Node) -> list[Finding]:
    """Whether what is granted adds up."""
    try:
        asked = pb.GetNodeResourceOptions(opts=pb.GetNodeOptions(nodename=node.name))
        found = await session.unary(rpc.GetNodeResource, asked, timeout_s=ANSWER_S)
    except EruError as error:
        text = f"node {node.name}: its resources cannot be checked: {error}"
        return [Finding("bad", text, "see the log of core")]
    if found.diffs:
        return _differences(node, list(found.diffs))
    if not opened(found.resource_capacity):
        cure = f"eru node set {node.name} --cpu N --memory SIZE"
        return [Finding("warn", f"node {node.name} has no resources", cure)]
    return []


def _differences(node: pb.Node, diffs: list[str]) -> list[Finding]:
    """Books that differ can be repaired; a workload that its engine cannot tell about needs something else."""
    missing = [found for each in diffs if (found := _MISSING.match(each)) is not None]
    gone = [each["id"] for each in missing if each["why"].startswith("No such container")]
    books = [each for each in diffs if _MISSING.match(each) is None]
    told = []
    if books:
        text = f"node {node.name}: {books[0]}{_more(books)}"
        told.append(Finding("bad", text, f"eru node resource {node.name} --fix"))
    if gone:
        text = f"node {node.name}: workload {gone[0]} is recorded and has no container{_more(gone)}"
        told.append(Finding("bad", text, f"eru workload remove --force {gone[0]}"))
    silent = [each for each in missing if each["id"] not in gone]
    if silent and node.available:  # else its engine has been complained about
        text = f"node {node.name}: {silent[0].string}{_more(silent)}"
        told.append(Finding("bad", text, f"check Docker on {node.name}, then ask again"))
    return told


def _more(of: Sequence[object]) -> str:
    return f" (and {len(of) - 1} more)" if len(of) > 1 else ""


async def _clock(session: Session, node: pb.Node) -> list[Finding]:
    """The engine's clock, which stands in the figures of any workload that runs there."""
    try:
        here = await session.unary(rpc.ListNodeWorkloads, pb.GetNodeOptions(nodename=node.name), timeout_s=ANSWER_S)
        running = [each.id for each in here.workloads if each.status.running][:1]
        if not running:
            return []
        started = session.world.clock.monotonic()
        [stat] = await session.collect(rpc.Stats, v1.StatsRequest(ids=running), timeout_s=ANSWER_S)
    except (EruError, ValueError):
        return []
    took = session.world.clock.monotonic() - started
    if stat.error or not stat.time_ns:
        return []
    return clock(f"node {node.name}", stat.time_ns / times.NS + took / 2, session.world, uncertain_s=took / 2)


async def _certificate(session: Session, node: pb.Node) -> list[Finding]:
    """The engine's, if it can be reached from here; core verifies it on every call."""
    parts = urlsplit(node.endpoint)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        return []
    what = f"the certificate of the engine of {node.name}"
    cure = f"make a new one on {node.name}, then: eru node set {node.name} --ca ... --cert ... --key ..."
    found = await certificates.shown_by(parts.hostname, parts.port, what, session.world, cure)
    return [each for each in found if each.state != "ok"]


async def workloads(session: Session) -> list[Finding]:
    """How many are not as they should be."""
    counts: Counter[str] = Counter()
    try:
        async for each in session.stream(rpc.ListWorkloads, pb.ListWorkloadsOptions(), timeout_s=ANSWER_S * 2):
            counts[state_of(each.status)] += 1
    except EruError as error:
        return [Finding("warn", f"workloads cannot be listed: {error}", "see the log of core")]
    if not counts.total():
        return []
    ill = [f"{counts[state]} {state}" for state in ("stopped", "running", "unreported") if counts[state]]
    if not ill:
        return [Finding("ok", f"{counted(counts.total(), 'workload')}, all healthy")]
    text = f"{counted(counts.total(), 'workload')}: {counts['healthy']} healthy, {', '.join(ill)}"
    return [Finding("warn", text.replace("running", "running but not healthy"), "eru pod status names them")]
