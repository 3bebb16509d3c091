"""`eru core info|watch`."""

from __future__ import annotations

from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.document import as_data
from eru.cli.show.table import render
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
    session.talk.say("watching the list of cores, Ctrl-C ends it")
    async for status in session.stream(rpc.WatchServiceStatus, pb.Empty()):
        if not session.tables:
            session.document(as_data(status))
            continue
        session.write("".join(f"{index}: {address}\n" for index, address in enumerate(sorted(status.addresses))))
