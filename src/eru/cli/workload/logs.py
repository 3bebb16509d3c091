"""`eru workload logs`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.talk import wants_colour
from eru.lib.retry import Backoff
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

UNIMPLEMENTED = 12
RECONNECT_S = 60.0  # how long a core that went away is waited for
STREAMS_MAX = 90  # streams at the same time on a core without a merged one; a connection carries 100
_COLOURS = ("36", "33", "32", "35", "34", "31")


@verb(
    "logs",
    examples="""
eru workload logs 3f2a --tail 100
eru workload logs -f shop/web            all instances, one stream
eru workload logs shop --since 10m
""",
)
@click.argument("what", nargs=-1, required=True, shell_complete=names.apps)
@click.option("--tail", default="all", show_default=True, help="So many last lines of each.")
@click.option("--since", default="", help="From this time on: 10m, or 2026-11-21T12:00:00Z.")
@click.option("--until", default="", help="Up to this time.")
@click.option("-f", "--follow", is_flag=True, help="Go on as they print more. Ctrl-C ends it.")
@click.option("--prefix/--no-prefix", default=None, help="Name each line's workload.  [default: if there are several]")
async def logs(
    session: Session,
    what: tuple[str, ...],
    tail: str,
    since: str,
    until: str,
    follow: bool,
    prefix: bool | None,
) -> int:
    """What workloads print: ids, names, an app, or app/entry. Output and errors go where they came from."""
    found = await resolve.group(session, what)
    asked = v1.LogsRequest(tail=tail, since=since, until=until, follow=follow)
    app, _, entry = what[0].partition("/")
    if len(what) == 1 and all(resolve.belongs(each.name, app, entry) for each in found):
        asked.appname, asked.entrypoint = app, entry  # instances that come later are followed too
    else:
        asked.ids.extend(each.id for each in found)
    several = len(found) > 1 or (follow and bool(asked.appname))
    printer = Printer(prefix if prefix is not None else several)
    for each in found:
        printer.named[each.id] = each.name
    if several or follow:
        try:
            return await _merged(session, asked, printer)
        except RemoteError as error:
            if error.code != UNIMPLEMENTED:
                raise
    return await _each(session, found, printer, tail, since, until, follow)


class Printer:
    """Raw bytes to standard output and error; whole lines when there are several sources."""

    def __init__(self, prefixed: bool) -> None:
        self.prefixed = prefixed
        self.named: dict[str, str] = {}
        self._colour = wants_colour(sys.stdout)
        self._open: dict[tuple[str, bool], bytes] = {}

    def take(self, id_: str, data: bytes, error_stream: bool, name: str = "") -> None:
        """Print one message."""
        if not self.prefixed:
            self._write(data, error_stream)
            return
        whole = self._open.pop((id_, error_stream), b"") + data
        *lines, rest = whole.split(b"\n")
        if rest:
            self._open[id_, error_stream] = rest
        label = self._label(id_, name)
        self._write(b"".join(label + line + b"\n" for line in lines), error_stream)

    def flush(self) -> None:
        """Print last lines that had no end."""
        for (id_, error_stream), rest in self._open.items():
            self._write(self._label(id_, "") + rest + b"\n", error_stream)
        self._open.clear()

    def _label(self, id_: str, name: str) -> bytes:
        text = f"{name or self.named.get(id_) or resolve.short(id_)} | "
        if self._colour:
            text = f"\x1b[{_COLOURS[sum(id_.encode()) % len(_COLOURS)]}m{text}\x1b[0m"
        return text.encode()

    @staticmethod
    def _write(data: bytes, error_stream: bool) -> None:
        if not data:
            return
        out = sys.stderr.buffer if error_stream else sys.stdout.buffer
        out.write(data)
        out.flush()


async def _merged(session: Session, asked: v1.LogsRequest, printer: Printer) -> int:
    """One ordered stream of our core. While following, a core that goes away is waited for, and nothing is repeated."""
    failed = 0
    backoff = Backoff(session.world, first_s=0.2, most_s=2.0)
    clock, lost_at, seen = session.world.clock, 0.0, False
    while True:
        last_ns = 0
        try:
            async for line in session.stream(rpc.Logs, asked):
                last_ns, seen = max(last_ns, line.time_ns), True
                backoff.reset()
                lost_at = 0.0
                if line.error:
                    failed += 1
                    session.talk.bad(f"{line.name or resolve.short(line.id)}: {line.error}")
                else:
                    printer.take(line.id, line.data, line.std_stream_type == pb.STDERR, line.name)
            if not (asked.follow and asked.appname):
                break  # the workloads have ended
        except CoreUnreachable:
            if not (asked.follow and seen):
                raise
        if last_ns:
            asked.tail, asked.since = "all", _after(last_ns)
        lost_at = lost_at or clock.monotonic()
        if clock.monotonic() - lost_at > RECONNECT_S:
            raise Problem(f"core did not come back within {RECONNECT_S:g}s", hint="eru doctor")
        if not backoff.tries:
            session.talk.warn("core went away, waiting for it")
        await backoff.wait()
    printer.flush()
    return Exit.PARTLY if failed else Exit.OK


def _after(time_ns: int) -> str:
    """The moment after a line, as `since` wants it."""
    seconds, rest = divmod(time_ns + 1, 1_000_000_000)
    return f"{seconds}.{rest:09d}"


async def _each(
    session: Session,
    found: Sequence[pb.Workload],
    printer: Printer,
    tail: str,
    since: str,
    until: str,
    follow: bool,
) -> int:
    """One stream per workload, side by side."""
    if follow and len(found) > STREAMS_MAX:
        session.talk.warn(f"only {STREAMS_MAX} of {len(found)} workloads can be followed at the same time on this core")
    gate = asyncio.Semaphore(STREAMS_MAX)
    failures: list[str] = []

    async def one(workload: pb.Workload) -> None:
        asked = pb.LogStreamOptions(id=workload.id, tail=tail, since=since, until=until, follow=follow)
        async with gate:
            async for message in session.stream(rpc.LogStream, asked):
                if message.error:
                    failures.append(message.error)
                    session.talk.bad(f"{workload.name or resolve.short(workload.id)}: {message.error}")
                else:
                    printer.take(workload.id, message.data, message.std_stream_type == pb.STDERR)

    if len(found) == 1:
        await one(found[0])
    else:

        async def told(workload: pb.Workload) -> None:
            try:
                await one(workload)
            except RemoteError as error:
                failures.append(str(error))
                session.talk.bad(f"{workload.name or resolve.short(workload.id)}: {error}")

        async with asyncio.TaskGroup() as group:
            for workload in found:
                group.create_task(told(workload))
    printer.flush()
    if not failures:
        return Exit.OK
    return Exit.PARTLY if len(failures) < len(found) else Exit.ERROR
