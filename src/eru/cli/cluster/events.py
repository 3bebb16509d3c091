"""`eru events`: one time line of what happened."""

from __future__ import annotations

from collections.abc import Callable

import click

from eru.cli import names, resolve
from eru.cli.cluster import history
from eru.cli.cluster.timeline import Timeline
from eru.cli.exits import Exit, Problem, not_found, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.times import since_ns
from eru.cli.suggest import did_you_mean
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

Keep = Callable[[v1.Event], bool]

SHOWN = 200  # events without --since or --limit


@verb(
    "events",
    examples="""
eru events                        what happened lately, everywhere
eru events shop --since 1h        one app; also app/entry, a name, an id or its beginning
eru events --node web1 --follow   one node, and whatever comes
""",
)
@click.argument("what", required=False, default="", shell_complete=names.apps_and_workloads)
@click.option("--node", default="", shell_complete=names.nodes, help="Only on this node.")
@click.option("--since", default="", metavar="TIME", help="From this time on: 10m, or 2026-11-21T12:00:00Z.")
@click.option(
    "-n", "--limit", type=int, default=None, help=f"The newest so many.  [default: {SHOWN}, or all of --since]"
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens. Ctrl-C ends it.")
async def events(session: Session, what: str, node: str, since: str, limit: int | None, follow: bool) -> int:
    """What happened to workloads and nodes, as all cores saw it: plan, pull, start, health, end, and why.

    Each core remembers its newest events in memory; what is older is in its log.
    """
    if limit is not None and limit < 1:
        raise usage(f"--limit {limit} shows nothing", hint="give a number above 0")
    asked = v1.EventsRequest(
        nodename=node,
        since_ns=since_ns("--since", since, session.world.clock.now_ns()),
        limit=limit or (0 if since else SHOWN),
    )
    timeline = Timeline(session, utc=session.settings.utc, absolute=follow)
    try:
        found, keep = await _found(session, what, asked)
    except history.NoEvents:
        return await _without(session, what, node, timeline)
    timeline.show(found)
    if not found and not follow:
        session.talk.say(_nothing(what, node, since))
    if follow:
        session.talk.say("following, Ctrl-C ends it")
        async for event in history.follow(session, asked, found):
            if keep(event):
                timeline.show([event])
    return Exit.OK


def _everything(event: v1.Event) -> bool:
    return True


async def _found(session: Session, what: str, asked: v1.EventsRequest) -> tuple[list[v1.Event], Keep]:
    """The events of what the user means, which need not exist any more; `asked` is narrowed to it.

    An app, `app/entry`, a whole id or name are asked for by name; a part of an
    id or name is looked up among what runs, and at last among what is gone.
    """
    if not what:
        return await history.past(session, asked), _everything
    asked.appname, _, asked.entrypoint = what.partition("/")
    if found := await history.past(session, asked):
        return found, _everything
    directory = resolve.Directory(session)
    if await directory.of_app(what):
        return [], _everything
    asked.appname = asked.entrypoint = ""
    running = await directory.matching(what)
    if len(running) > 1:
        await resolve.one(directory, what)  # says which
    asked.ids.append(running[0].id if running else what)
    if running or (found := await history.past(session, asked)):
        return found or await history.past(session, asked), _everything
    del asked.ids[:]

    def keep(event: v1.Event) -> bool:
        return event.id.startswith(what) or event.name.startswith(what)

    everything = v1.EventsRequest(nodename=asked.nodename, since_ns=asked.since_ns)
    gone = [event for event in await history.past(session, everything) if keep(event)]
    if gone:
        return gone[-asked.limit :] if asked.limit else gone, keep
    known = {each.name.rsplit("_", 2)[0] for each in await directory.all()}
    hint = did_you_mean(what, known) or "`eru events` shows everything that is remembered"
    raise not_found(
        f"nothing is known of {what!r}", why="no event mentions it, and nothing of that name runs", hint=hint
    )


def _nothing(what: str, node: str, since: str) -> str:
    about = f" about {what}" if what else ""
    where = f" on node {node}" if node else ""
    when = f" in the last {since}" if since and "-" not in since else f" since {since}" if since else ""
    return f"no event{about}{where}{when}"


async def _without(session: Session, what: str, node: str, timeline: Timeline) -> int:
    """A core that keeps no events can still say what there is, and since when."""
    app, _, entry = what.partition("/")
    everyone = await session.collect(rpc.ListWorkloads, pb.ListWorkloadsOptions())
    wanted = [
        each
        for each in everyone
        if node in ("", each.nodename)
        and (not what or resolve.belongs(each.name, app, entry) or each.id.startswith(what) or each.name == what)
    ]
    if what and not wanted:
        raise Problem(f"this core keeps no events, and nothing of the name {what!r} runs", code=Exit.NOT_FOUND)
    session.talk.warn("this core keeps no events; this is when what runs now was made")
    timeline.show(history.inferred(wanted))
    session.talk.next(f"eru status {what}".rstrip())
    return Exit.OK
