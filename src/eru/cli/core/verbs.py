"""`eru core info|watch`."""

from __future__ import annotations

from contextlib import aclosing

from eru.cli.cluster.status import RECONNECT_S
from eru.cli.exits import Problem
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.table import render
from eru.lib.retry import Backoff
from eru.model.errors import CoreUnreachable
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc


@verb("info", examples="eru core info\neru -o json core info")
async def info(session: Session) -> None:
    """Version and identity of the core that answers."""
    found = await session.unary(rpc.Info, pb.Empty())
    rows = [
        ("Version", found.version),
        ("Git hash", found.revison),
        ("Built", found.build_at),
        ("Golang version", found.golang_version),
        ("OS/Arch", found.os_arch),
        ("Identifier", found.identifier),
    ]
    session.show(
        as_data(found),
        lambda: render(["NAME", "DESCRIPTION"], [[[name], [value]] for name, value in rows]),
        [found.identifier],
    )


@verb("watch", examples="eru core watch")
async def watch(session: Session) -> None:
    """Follow which cores run; one line per core at each change. Ctrl-C ends it."""
    if session.settings.published:
        session.write("watch start\n")  # the first line of its output
    else:
        session.talk.say("watching the list of cores, Ctrl-C ends it")
    backoff = Backoff(session.world, first_s=0.2, most_s=2.0)
    clock, heard_at, before = session.world.clock, 0.0, None
    while True:
        try:
            async with aclosing(session.stream(rpc.WatchServiceStatus, pb.Empty())) as lists:
                async for status in lists:
                    backoff.reset()
                    heard_at, cores = clock.monotonic(), sorted(status.addresses)
                    if cores != before:
                        _show(session, status)
                    before = cores
        except CoreUnreachable:
            if before is None:
                raise
        if not backoff.tries:
            session.talk.warn("core went away, looking for one")
        if clock.monotonic() - heard_at > RECONNECT_S:
            raise Problem(f"no core came back within {RECONNECT_S:g}s", hint="eru doctor")
        await backoff.wait()


def _show(session: Session, status: pb.ServiceStatus) -> None:
    if session.tables:
        session.write("".join(f"{index}: {address}\n" for index, address in enumerate(sorted(status.addresses))))
    else:
        session.item(as_data(status), "\n".join(sorted(status.addresses)))
