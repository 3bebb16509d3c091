"""Asking what happened: from the journal of this core, and on from there while it happens.

A core that has just started remembers nothing. Of workloads that are asked
for by id or name it then tells what the store and the engine still know.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import nullcontext

from eru.core.app import Core
from eru.core.calls import bounded
from eru.core.events import ASKING_S, Happened, Wanted, ending
from eru.lib.tasks import map_bounded
from eru.model.errors import EruError, InvalidInput
from eru.model.names import parse_workload_name
from eru.model.workloads import LABEL_TRACE, Workload
from eru.store.contract import range_all

WORKLOADS_MAX = 1_000  # ids and names in one request
ASKED_MAX = 100  # of those, how many the store and the engines are asked about
NAME_BYTES_MAX = 1_024  # no id and no name is longer
_PARALLEL_MAX = 16

_CREATED = frozenset({"created", "recorded"})


async def events(core: Core, wanted: Wanted, *, limit: int = 0, follow: bool = False) -> AsyncGenerator[Happened, None]:
    """What is wanted, oldest first; `limit`: only the newest so many of what has happened.

    What is unknown has no events, which is no error. Raises InvalidInput, and Refused when a reader that follows
    is too slow.
    """
    if limit < 0:
        raise InvalidInput(f"limit {limit} is negative, expected 0 (all that are kept) or more")
    if wanted.since_ns < 0:
        raise InvalidInput(f"since_ns {wanted.since_ns} is negative, expected nanoseconds since 1970")
    if len(wanted.workloads) > WORKLOADS_MAX:
        raise InvalidInput(
            f"{len(wanted.workloads)} ids are too many, at most {WORKLOADS_MAX} can be asked for at once"
        )
    with core.events.hub.subscribe(_narrowed(core, wanted)) if follow else nullcontext(None) as arriving:
        past = core.events.find(wanted)  # nothing can happen between the two: neither waits
        if wanted.workloads:
            told = await _remembered(core, wanted, past)
            past = sorted([*told, *past], key=lambda event: (event.time_ns, event.number))
        for event in past[-limit:] if limit else past:
            yield event
        if arriving is not None:
            async for event in arriving:
                yield event


def _narrowed(core: Core, wanted: Wanted) -> Callable[[Happened], bool]:
    """What a follower wants, so that nothing else waits for it. Id and name are one once an event has both."""
    workloads = core.events.same(wanted.workloads)

    def wants(event: Happened) -> bool:
        if not wanted.matches(event, workloads):
            return False
        if workloads and event.id and event.name:
            workloads.update((event.id, event.name))
        return True

    return wants


# What is older than this core's memory.


async def _remembered(core: Core, wanted: Wanted, past: Iterable[Happened]) -> list[Happened]:
    """Made up from records, for workloads whose beginning is not in `past`."""
    known = {one for event in past if event.kind in _CREATED for one in (event.id, event.name)}
    missing = sorted(wanted.workloads - known)[:ASKED_MAX]
    found = await map_bounded(missing, lambda one: _of_workload(core, one), _PARALLEL_MAX)
    return [event for told in found for event in told if wanted.matches(event, {event.id})]


async def _of_workload(core: Core, id_or_name: str) -> list[Happened]:
    workload = await _record(core, id_or_name)
    if workload is None:
        return []
    created, told = "as its record says", list[Happened]()
    try:
        engine = await core.engine_for(workload.nodename)
        seen = await bounded(engine.inspect(workload.id), ASKING_S, "inspect")
    except EruError:
        return [_event(workload, "created", workload.create_time, created)]
    # The record is written after the start, and its time is a whole second.
    told.append(_event(workload, "created", min(workload.create_time, seen.started_at or math.inf), created))
    if seen.started_at:
        again = f", which started it again {seen.restarts} times" if seen.restarts else ""
        told.append(_event(workload, "started", seen.started_at, f"as the engine says{again}"))
    if not seen.running and seen.finished_at:
        detail, error = ending(seen)
        told.append(
            _event(workload, "down", seen.finished_at, ", ".join(filter(None, (detail, "as the engine says"))), error)
        )
    return told


async def _record(core: Core, id_or_name: str) -> Workload | None:
    if "/" in id_or_name or len(id_or_name.encode()) > NAME_BYTES_MAX:
        return None  # nothing can be called so
    item = await core.store.get(core.keys.workload(id_or_name))
    if item is not None:
        return Workload.decode(item.value)
    try:
        app, entrypoint, _ = parse_workload_name(id_or_name)
    except InvalidInput:
        return None
    rows, _ = await range_all(core.store, core.keys.of_app(app, entrypoint), keys_only=True)
    ids = [row.key.rpartition("/")[2] for row in rows]
    found = await core.store.get_many([core.keys.workload(id) for id in ids])
    records = (Workload.decode(item.value) for item in found.values())
    return next((record for record in records if record.name == id_or_name), None)


def _event(workload: Workload, kind: str, at_s: float, detail: str, error: str = "") -> Happened:
    app, entrypoint, _ = parse_workload_name(workload.name)
    return Happened(
        number=0,
        time_ns=int(at_s * 1_000_000_000),
        kind=kind,
        app=app,
        entrypoint=entrypoint,
        id=workload.id,
        name=workload.name,
        node=workload.nodename,
        detail=detail,
        error=error,
        trace=workload.labels.get(LABEL_TRACE, "") if kind == "created" else "",
    )
