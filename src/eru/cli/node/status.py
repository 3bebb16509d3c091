"""`eru node set-status|watch-status`."""

from __future__ import annotations

import click

from eru.cli import names
from eru.cli.exits import usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.model.errors import RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb("set-status", examples="eru node set-status web1 --ttl 180\neru node set-status web1 --ttl 60 --interval 20")
@click.argument("name", shell_complete=names.nodes)
@click.option("--ttl", type=int, default=180, show_default=True, help="Seconds it counts as alive; below 0: dead now.")
@click.option("--interval", type=int, default=0, help="Repeat every so many seconds, until interrupted.")
async def set_status(session: Session, name: str, ttl: int, interval: int) -> None:
    """Report a node alive, as its agent would."""
    if ttl == 0:
        raise usage("--ttl 0 says nothing", hint="give seconds above 0, or -1 to declare the node dead")
    asked = pb.SetNodeStatusOptions(nodename=name, ttl=ttl)
    async with names.naming(session, "node", name):
        await session.unary(rpc.SetNodeStatus, asked)
    session.talk.good(f"node {name} reported {'alive for ' + str(ttl) + ' s' if ttl > 0 else 'dead'}")
    while interval > 0:
        await session.world.clock.sleep(interval)
        try:
            await session.unary(rpc.SetNodeStatus, asked)
        except RemoteError as error:
            session.talk.bad(f"node {name}: {error}")


@verb("watch-status", examples="eru node watch-status")
async def watch_status(session: Session) -> None:
    """Follow which nodes come and go. Ctrl-C ends it."""
    session.talk.say("watching nodes, Ctrl-C ends it")
    async for event in session.stream(rpc.NodeStatusStream, pb.Empty()):
        if not session.tables:
            session.item([as_data(event)] if session.settings.output != "jsonl" else as_data(event), event.nodename)
        elif event.error:
            session.talk.bad(f"node {event.nodename}: {event.error}")
        else:
            session.write(f"{event.nodename} of pod {event.podname} is {'alive' if event.alive else 'dead'}\n")
