"""`eru why INSTANCE`: its life in five lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.cluster import history
from eru.cli.cluster.timeline import document
from eru.cli.exits import Exit, human_bytes, not_found
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show import times
from eru.cli.show.document import as_data
from eru.cli.show.resources import totals
from eru.cli.show.table import one_line
from eru.cli.workload.health import state_of
from eru.model.errors import EruError
from eru.model.workloads import LABEL_TRACE
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

INSPECT_S = 5.0  # for the engine's own words; without them the rest is told
_ASKED = ("planned", "created", "recorded")
_BAD = ("failed", "refused", "unhealthy", "down")


@dataclass
class Life:
    """What is known of one instance. `workload` None: it is gone. `engine`: the engine's own description, or {}."""

    name: str
    id: str
    workload: pb.Workload | None = None
    node: pb.Node | None = None
    events: list[v1.Event] = field(default_factory=list)
    remembered: bool = True  # false: this core keeps no events
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        if self.workload is not None:
            return self.workload.nodename
        return next((each.nodename for each in reversed(self.events) if each.nodename), "")

    def first(self, *kinds: str) -> v1.Event | None:
        return next((each for each in self.events if each.kind in kinds), None)

    def last(self, *kinds: str) -> v1.Event | None:
        return next((each for each in reversed(self.events) if each.kind in kinds), None)


@verb("why", examples="eru why shop_web_aBcDeF\neru why 3f2a\neru -o json why 3f2a")
@click.argument("instance", shell_complete=names.workloads)
async def why(session: Session, instance: str) -> int:
    """An instance's life in five lines: who asked for it, where it is and why there, how it is, what went wrong, what
    happens next. Also of an instance that is gone, as long as core remembers it.
    """
    life = await _look(session, instance)
    told = _five(session, life)
    data: dict[str, Any] = {
        "name": life.name,
        "id": life.id,
        **told,
        "events": [document(each) for each in life.events],
    }
    if life.workload is not None:
        data["workload"] = as_data(life.workload)
    session.show(data, lambda: _lines(life, told), [life.id])
    session.talk.next(f"eru events {life.name}")
    return Exit.OK


async def life_lines(session: Session, instance: str) -> list[str]:
    """The same as text, for others."""
    life = await _look(session, instance)
    return _lines(life, _five(session, life)).splitlines()


def _five(session: Session, life: Life) -> dict[str, str]:
    now_ns = session.world.clock.now_ns()

    def when(time_ns: int) -> str:
        return times.utc(time_ns) if session.settings.utc else times.ago(time_ns, now_ns)

    return {
        "asked": _asked(life, when),
        "placed": _placed(life),
        "now": _now(life, now_ns),
        "trouble": _trouble(life, when),
        "next": _next(life),
    }


def _lines(life: Life, told: dict[str, str]) -> str:
    head = f"{life.name} ({resolve.short(life.id)})\n"
    return head + "".join(f"  {label:<8} {one_line(text)}\n" for label, text in told.items())


# -- looking


async def _look(session: Session, word: str) -> Life:
    """Everything that can be found out; what does not answer is left out."""
    directory = resolve.Directory(session)
    found = await directory.matching(word)
    if not found:
        return await _gone(session, directory, word)
    workload = found[0] if len(found) == 1 else await resolve.one(directory, word)
    life = Life(workload.name, workload.id, workload)
    try:
        life.events = await history.past(session, v1.EventsRequest(ids=[workload.id]))
    except history.NoEvents:
        life.remembered = False
    if life.remembered:  # a published core ends when it is asked for an engine's own words
        life.engine = await _inspect(session, workload.id)
    try:
        life.node = await session.unary(rpc.GetNode, pb.GetNodeOptions(nodename=workload.nodename))
    except EruError as error:
        session.talk.warn(f"node {workload.nodename}: {error}")
    return life


async def _gone(session: Session, directory: resolve.Directory, word: str) -> Life:
    try:
        events = await history.past(session, v1.EventsRequest())
    except history.NoEvents:
        events = []
    about = [each for each in events if each.id.startswith(word) or (each.name and each.name.startswith(word))]
    ids = {each.name or each.id for each in about}
    if not about:
        await resolve.one(directory, word)
    if len(ids) > 1:
        shown = sorted(ids)[: resolve.CANDIDATES_SHOWN_MAX]
        raise not_found(
            f"no instance {word!r} runs, and {len(ids)} that are gone fit", why=shown, hint="give more of it"
        )
    newest = about[-1]
    id_ = next((each.id for each in reversed(about) if each.id), "")
    return Life(newest.name, id_, events=about)


async def _inspect(session: Session, id_: str) -> dict[str, Any]:
    """Docker's own description; {} from an engine that has none or does not answer."""
    try:
        asked = pb.RawEngineOptions(id=id_, op="inspect", ignore_lock=True)
        answer = await session.unary(rpc.RawEngine, asked, timeout_s=INSPECT_S)
        found = json.loads(answer.data)
    except (EruError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# -- telling


def _asked(life: Life, when: Any) -> str:
    first = life.first(*_ASKED)
    trace = next((each.trace_id for each in life.events if each.trace_id), "")
    trace = trace or str(((life.engine.get("Config") or {}).get("Labels") or {}).get(LABEL_TRACE) or "")
    made = life.workload.create_time * times.NS if life.workload is not None else 0
    at = first.time_ns if first is not None else made
    parts = [when(at) if at else "at an unknown time"]
    parts.append(f"by request {trace}" if trace else "by a request whose id nobody remembers")
    if life.workload is not None and life.workload.image:
        parts.append(f"image {life.workload.image}")
    return ", ".join(parts)


def _placed(life: Life) -> str:
    if not life.where:
        return "on no node: it was never made"
    pod = f" of pod {life.workload.podname}" if life.workload is not None else ""
    parts = [f"on {life.where}{pod}"]
    planned = life.first("planned")
    if planned is not None and planned.detail:
        parts.append(planned.detail)
    if life.workload is not None:
        granted = totals([life.workload.resources])
        parts.append(f"with {granted['CPUs']:g} cores and {human_bytes(granted['Memory'])} of memory")
    return ", ".join(parts)


def _now(life: Life, now_ns: int) -> str:
    if life.workload is None:
        gone = life.last("removed", "replaced", "failed", "released")
        return f"gone: {gone.kind}{_told(gone)}" if gone is not None else "gone"
    state = state_of(life.workload.status)
    parts = ["no agent has reported it" if state == "unreported" else state]
    engine = life.engine.get("State") or {}
    started = _started_ns(engine)
    if engine.get("Running") and started:
        parts.append(f"up {times.duration((now_ns - started) / times.NS)}")
    elif engine and not engine.get("Running"):
        parts.append(f"{engine.get('Status') or 'stopped'} with exit code {engine.get('ExitCode')}")
    if restarts := life.engine.get("RestartCount"):
        parts.append(f"restarted {restarts} times" if restarts > 1 else "restarted once")
    if life.node is not None and not life.node.available:
        parts.append(f"node {life.where} is down")
    return ", ".join(parts)


def _trouble(life: Life, when: Any) -> str:
    engine = life.engine.get("State") or {}
    said: list[str] = []
    if engine.get("OOMKilled"):
        said.append("killed for want of memory")
    if engine.get("Error"):
        said.append(str(engine["Error"]))
    if not engine.get("Running", True) and engine.get("ExitCode"):
        said.append(f"it ended with exit code {engine['ExitCode']}")
    last = life.last(*_BAD)
    if last is not None:
        said.append(f"{when(last.time_ns)} {last.kind}{_told(last)}")
    if said:
        return "; ".join(said)
    return "none" if life.remembered else "none known; this core keeps no events"


def _next(life: Life) -> str:
    if life.workload is None:
        return "nothing: nobody starts it again; `eru workload deploy` makes a new one"
    policy = str((life.engine.get("HostConfig") or {}).get("RestartPolicy", {}).get("Name") or "no")
    state = state_of(life.workload.status)
    restarted = policy not in ("", "no")
    if life.node is not None and not life.node.available:
        return f"nothing until node {life.where} is back: `eru doctor`"
    if state == "unreported" and (life.engine.get("State") or {}).get("Running") is False:
        state = "stopped"  # the engine knows better than an agent that says nothing
    if state == "unreported":
        return f"nothing is known until the agent of {life.where} reports: `eru doctor`"
    if state == "stopped":
        if restarted:
            return f"the engine restarts it (policy {policy})"
        return f"nothing: nobody restarts it; `eru workload start {life.name}`"
    ending = f"if it ends, the engine restarts it (policy {policy})" if restarted else "if it ends, it stays down"
    if state == "running":
        return f"its agent goes on probing it; {ending}; `eru logs --tail 20 {life.name}`"
    return f"it runs until it is stopped; {ending}"


def _told(event: v1.Event) -> str:
    told: Sequence[str] = [part for part in (event.detail, event.error) if part]
    return f": {': '.join(told)}" if told else ""


def _started_ns(state: dict[str, Any]) -> int:
    try:
        at = datetime.fromisoformat(str(state.get("StartedAt") or "")[:19] + "+00:00")
    except ValueError:
        return 0
    return max(int(at.timestamp() * times.NS), 0)
