"""`eru status`: what runs now, and what changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing

import click

from eru.cli import names
from eru.cli.exits import Exit, Problem, usage
from eru.cli.lazy import verb
from eru.cli.parse import pairs
from eru.cli.resolve import short
from eru.cli.session import Session
from eru.cli.show import times
from eru.cli.show.columns import Column
from eru.cli.show.document import as_data
from eru.cli.show.lists import state_colour
from eru.cli.show.table import render
from eru.cli.show.tables import addresses
from eru.cli.workload.health import state_of
from eru.lib.retry import Backoff
from eru.lib.tasks import task_owner
from eru.model.errors import CoreUnreachable
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc

Wanted = Callable[[pb.Workload], bool]

RECONNECT_S = 60.0  # how long a core that went away is waited for
EVENTS_KEPT_MAX = 10_000  # events that may come in while the first table is made


@verb("status", examples="eru status\neru status shop --entry web --watch\neru status --once\neru -o jsonl status")
@click.argument("app", required=False, default="", shell_complete=names.apps)
@click.option("--entry", default="", shell_complete=names.entrypoints, help="Only this entrypoint.")
@click.option("--node", default="", shell_complete=names.nodes, help="Only on this node.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Only with this label; can be repeated.")
@click.option("--once", is_flag=True, help="Do not follow the changes.")
@click.option("-w", "--watch", is_flag=True, help="Keep the table up to date in place, on a terminal.")
async def status(
    session: Session, app: str, entry: str, node: str, label: tuple[str, ...], once: bool, watch: bool
) -> int:
    """What runs now, then every change as it happens. Ctrl-C ends it."""
    labels = pairs("--label", label)
    if watch and once:
        raise usage("--watch and --once cannot be together", hint="--once is one table, --watch keeps it up to date")
    if watch and session.tables and sys.stdout.isatty():
        from eru.cli.tui import command  # curses is only for terminals

        place = f"{app}/{entry}" if app and entry else app
        words = " ".join(each for each in (entry if not app else "", node) if each)
        return await command.run(session, place, words=words, labels=labels)
    filtered = bool(app or entry or node or label)

    def wanted(workload: pb.Workload) -> bool:
        parts = [*workload.name.rsplit("_", 2), ""]
        return app in ("", parts[0]) and entry in ("", parts[1]) and node in ("", workload.nodename)

    view = View(session, app, labels, wanted, filtered)
    if once:
        await view.now()
        return Exit.OK
    backoff = Backoff(session.world, first_s=0.2, most_s=2.0)
    clock, lost_at = session.world.clock, 0.0
    while True:
        try:
            await view.follow()
        except CoreUnreachable:
            if not view.shown:
                raise
        if view.fresh:
            backoff.reset()
            lost_at, view.fresh = clock.monotonic(), False
        if clock.monotonic() - lost_at > RECONNECT_S:
            raise Problem(f"core did not come back within {RECONNECT_S:g}s", hint="eru doctor")
        if not backoff.tries:
            session.talk.warn("core went away, waiting for it")
        await backoff.wait()


class View:
    """What is shown: a table, then the changes to it; after a break, everything anew."""

    def __init__(self, session: Session, app: str, labels: dict[str, str], wanted: Wanted, filtered: bool) -> None:
        self.session = session
        self.app = app
        self.labels = labels
        self.wanted = wanted
        self.filtered = filtered
        self.known: dict[str, str] = {}  # id -> name
        self.shown = False  # ever
        self.fresh = False  # since the last break

    async def now(self) -> None:
        """The table."""
        self.known = await _now(self.session, self.app, self.labels, self.wanted)
        self.shown = self.fresh = True

    async def follow(self) -> None:
        """The table, and changes until core ends the stream. Raises RemoteError."""
        asked = pb.WorkloadStatusStreamOptions(appname=self.app, labels=self.labels)
        events: asyncio.Queue[pb.WorkloadStatusStreamMessage] = asyncio.Queue(EVENTS_KEPT_MAX)

        async def read() -> None:
            async with aclosing(self.session.stream(rpc.WorkloadStatusStream, asked)) as stream:
                async for event in stream:
                    await events.put(event)

        async with task_owner("status") as owner:
            # the stream is opened before the list is made: what changes in between is seen twice, not missed
            reading = owner.start("read", read())
            await self.now()
            self.session.talk.say("following changes, Ctrl-C ends it")
            while True:
                taking = owner.start("next", events.get())
                await asyncio.wait({reading, taking}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    self._take(taking.result())
                elif reading.done():
                    reading.result()
                    return

    def _take(self, event: pb.WorkloadStatusStreamMessage) -> None:
        # what is gone cannot be looked at: with a filter it is told if it was seen before
        if self.wanted(event.workload) if event.HasField("workload") else not self.filtered or event.id in self.known:
            _tell(self.session, event, self.known)


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
            [_age(session, each)],
            [addresses(each.publish, each.status.networks)],
        ]
        for each in found
    ]
    heads = ["NAME", "ID", "NODE", "STATE", "AGE", "ADDRESSES"]
    session.show(
        [as_data(each) for each in found],
        lambda: render(heads, rows),
        [each.id for each in found],
        lambda: _columns(heads, rows),
    )
    if session.tables and not found and app:
        session.talk.say(f"no workload of an app {app}")
    if session.tables and found:
        healthy = sum(state_of(each.status) == "healthy" for each in found)
        session.talk.say(f"{healthy} of {len(found)} healthy")
    return {each.id: each.name for each in found}


def _columns(heads: Sequence[str], rows: Sequence[Sequence[Sequence[str]]]) -> list[Column]:
    """For a terminal."""
    keep = {"NAME": 9, "STATE": 9, "NODE": 8, "AGE": 6, "ADDRESSES": 5, "ID": 4}
    return [
        Column(head, [row[at][0] for row in rows], matters=keep[head], colour=state_colour if head == "STATE" else None)
        for at, head in enumerate(heads)
    ]


def _age(session: Session, workload: pb.Workload) -> str:
    """How long ago it was made, or when."""
    if not workload.create_time:
        return "-"
    if session.settings.utc:
        return times.utc(workload.create_time * times.NS)
    return times.duration(session.world.clock.now() - workload.create_time)


def _tell(session: Session, event: pb.WorkloadStatusStreamMessage, known: dict[str, str]) -> None:
    if event.HasField("workload"):
        known[event.id] = event.workload.name
    if not session.tables:
        session.item(as_data(event), event.id)
        return
    now_ns = session.world.clock.now_ns()
    stamp = times.utc(now_ns) if session.settings.utc else times.clock_time(now_ns)
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
    return f"{label} healthy {addresses(workload.publish, event.status.networks)}".rstrip()
