"""`eru status`: what runs now, and what changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import click

from eru.cli import names
from eru.cli.document import as_data
from eru.cli.exits import Exit
from eru.cli.health import state_of
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.resolve import short
from eru.cli.session import Session
from eru.cli.table import render
from eru.lib.tasks import task_owner
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

Wanted = Callable[[pb.Workload], bool]

EVENTS_KEPT_MAX = 10_000  # events that may come in while the first table is made


@verb("status", examples="eru status\neru status shop --entry web\neru status --once\neru -o jsonl status")
@click.argument("app", required=False, default="", shell_complete=names.apps)
@click.option("--entry", default="", shell_complete=names.entrypoints, help="Only this entrypoint.")
@click.option("--node", default="", shell_complete=names.nodes, help="Only on this node.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; can be repeated.")
@click.option("--once", is_flag=True, help="Do not follow the changes.")
async def status(session: Session, app: str, entry: str, node: str, label: tuple[str, ...], once: bool) -> int:
    """What runs now, then every change as it happens. Ctrl-C ends it."""
    labels = pairs("--label", label)
    filtered = bool(app or entry or node or label)

    def wanted(workload: pb.Workload) -> bool:
        parts = [*workload.name.rsplit("_", 2), ""]
        return app in ("", parts[0]) and entry in ("", parts[1]) and node in ("", workload.nodename)

    asked = pb.WorkloadStatusStreamOptions(appname=app, labels=labels)
    events: asyncio.Queue[pb.WorkloadStatusStreamMessage] = asyncio.Queue(EVENTS_KEPT_MAX)

    async def read() -> None:
        async with aclosing(session.stream(rpc.WorkloadStatusStream, asked)) as stream:
            async for event in stream:
                await events.put(event)

    async with task_owner("status") as owner:
        # the stream is opened before the list is made: what changes in between is seen twice, never missed
        reading = None if once else owner.start("read", read())
        known = await _now(session, app, labels, wanted)
        if reading is None:
            return Exit.OK
        session.talk.say("following changes, Ctrl-C ends it")
        while True:
            taking = owner.start("next", events.get())
            await asyncio.wait({reading, taking}, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                event = taking.result()
                # what is gone cannot be looked at: with a filter it is told if it was seen before
                if wanted(event.workload) if event.HasField("workload") else not filtered or event.id in known:
                    _tell(session, event, known)
            elif reading.done():
                taking.cancel()
                reading.result()
                session.talk.warn("core ended the stream")
                return Exit.ERROR


async def _now(session: Session, app: str, labels: dict[str, str], wanted: Wanted) -> dict[str, str]:
    """Show what is there; id -> name of it."""
    options = pb.ListWorkloadsOptions(appname=app, labels=labels)
    found = sorted(
        (each for each in await session.collect(rpc.ListWorkloads, options) if wanted(each)),
        key=lambda each: (each.name, each.id),
    )
    rows = [
        [
            [each.name],
            [short(each.id)],
            [each.nodename],
            [state_of(each.status)],
            [", ".join(each.publish[name] for name in sorted(each.publish) if each.publish[name])],
        ]
        for each in found
    ]
    heads = ["NAME", "ID", "NODE", "STATE", "ADDRESSES"]
    session.show([as_data(each) for each in found], lambda: render(heads, rows), [each.id for each in found])
    return {each.id: each.name for each in found}


def _tell(session: Session, event: pb.WorkloadStatusStreamMessage, known: dict[str, str]) -> None:
    if event.HasField("workload"):
        known[event.id] = event.workload.name
    if not session.tables:
        session.document(as_data(event))
        return
    stamp = time.strftime("%H:%M:%S", time.localtime(session.world.clock.now()))
    session.write(f"{stamp} {_words(event, known)}\n")


def _words(event: pb.WorkloadStatusStreamMessage, known: dict[str, str]) -> str:
    name = known.pop(event.id, "") if event.delete else known.get(event.id, "")
    id_ = f"{name} ({short(event.id)})" if name else short(event.id)
    if event.error:
        return f"{id_} removed" if event.delete else f"{id_} error: {event.error}"
    workload = event.workload
    label = f"{workload.name} ({short(event.id)}) on {workload.nodename}"
    if event.delete:
        return f"{label} expired: no agent reports it any more"
    if not event.status.running:
        return f"{label} stopped"
    if not event.status.healthy:
        return f"{label} unhealthy"
    addresses = ", ".join(workload.publish[name] for name in sorted(workload.publish) if workload.publish[name])
    return f"{label} healthy {addresses}".rstrip()
