"""`eru logs`, `eru workload logs`."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from eru.cli import names, resolve
from eru.cli.exits import Exit, Problem, usage
from eru.cli.lazy import verb
from eru.cli.session import Session
from eru.cli.show.talk import wants_colour
from eru.cli.show.times import utc_fine
from eru.cli.workload.select import meant, selector_options
from eru.lib.retry import Backoff
from eru.model.errors import CoreUnreachable, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

UNIMPLEMENTED = 12
RECONNECT_S = 60.0  # how long a core that went away is waited for
STREAMS_MAX = 90  # streams at the same time on a core without a merged one; a connection carries 100
# Unix seconds, the beginning of an RFC 3339 time, or durations back from now; core reads them
_TIME = re.compile(r"\d+(\.\d+)?|\d{4}-\d\d.*|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d))+")
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")  # red is for errors


@verb(
    "logs",
    examples="""
eru logs -f shop/web                 all instances in one stream, as they print
eru logs shop --since 10m --grep 'error|timeout'
eru logs 3f2a --tail 100
""",
)
@click.argument("what", nargs=-1, shell_complete=names.apps_and_workloads)
@selector_options
@click.option("-n", "--tail", default="all", show_default=True, help="So many last lines of each.")
@click.option("--since", default="", help="From this time on: 10m, or 2026-11-21T12:00:00Z.")
@click.option("--until", default="", help="Up to this time.")
@click.option("-f", "--follow", is_flag=True, help="Go on as they print more. Ctrl-C ends it.")
@click.option("-g", "--grep", default="", metavar="PATTERN", help="Only lines that match; after --tail was counted.")
@click.option("-t", "--timestamps", is_flag=True, help="The time of each line, by its engine's clock in UTC.")
@click.option("--prefix/--no-prefix", default=None, help="Name each line's workload.  [default: if there are several]")
async def logs(
    session: Session,
    what: tuple[str, ...],
    tail: str,
    since: str,
    until: str,
    follow: bool,
    grep: str,
    timestamps: bool,
    prefix: bool | None,
    **values: Any,
) -> int:
    """What workloads print: ids, names, an app, or app/entry; several in the order of time.

    Output and errors go where they came from.
    """
    pattern = _pattern(grep)
    if tail != "all" and not tail.isdecimal():
        raise usage(f"--tail {tail!r} is neither all nor a number of lines", hint="for example --tail 100")
    for option, text in (("--since", since), ("--until", until)):
        if text and not _TIME.fullmatch(text):
            raise usage(f"{option} {text!r} is not a time", hint="for example 10m (ago), or 2026-01-31T12:00:00Z")
    found = await meant(session, what, values, "show")
    asked = v1.LogsRequest(tail=tail, since=since, until=until, follow=follow)
    app, _, entry = what[0].partition("/") if what else (values["app"], "", values["entry"])
    if (
        app
        and len(what) < 2
        and not (values["node"] or values["label"])
        and all(resolve.belongs(each.name, app, entry) for each in found)
    ):
        asked.appname, asked.entrypoint = app, entry  # instances that come later are followed too
    else:
        asked.ids.extend(each.id for each in found)
    several = len(found) > 1 or (follow and bool(asked.appname))
    printer = Printer(prefix if prefix is not None else several, pattern=pattern, timestamps=timestamps)
    for each in found:
        printer.named[each.id] = each.name
    if several or follow or timestamps:
        try:
            return await _merged(session, asked, printer)
        except RemoteError as error:
            if error.code != UNIMPLEMENTED:
                raise
    return await _each(session, found, printer, tail, since, until, follow)


def _pattern(text: str) -> re.Pattern[bytes] | None:
    if not text:
        return None
    try:
        return re.compile(text.encode())
    except re.error as error:
        raise usage(
            f"--grep {text!r} is not a pattern: {error}", hint="put a backslash before . * + ? ( ) [ ]"
        ) from None


class Printer:
    """Raw bytes to standard output and error; whole lines where they are named, filtered or stamped."""

    def __init__(
        self,
        prefixed: bool,
        *,
        pattern: re.Pattern[bytes] | None = None,
        timestamps: bool = False,
        colour: bool | None = None,
    ) -> None:
        self.prefixed = prefixed
        self.named: dict[str, str] = {}
        self._pattern = pattern
        self._timestamps = timestamps
        self._lines = prefixed or timestamps or pattern is not None
        self._colour = wants_colour(sys.stdout) if colour is None else colour
        self._colours: dict[str, str] = {}
        self._open: dict[tuple[str, bool], bytes] = {}

    def take(self, id_: str, data: bytes, error_stream: bool, name: str = "", time_ns: int = 0) -> None:
        """Print one message."""
        if not self._lines:
            self._write(data, error_stream)
            return
        whole = self._open.pop((id_, error_stream), b"") + data
        *lines, rest = whole.split(b"\n")
        if rest:
            self._open[id_, error_stream] = rest
        label = self.label(id_, name, time_ns)
        self._write(b"".join(label + line + b"\n" for line in lines if self._wanted(line)), error_stream)

    def flush(self) -> None:
        """Print last lines that had no end."""
        for (id_, error_stream), rest in self._open.items():
            if self._wanted(rest):
                self._write(self.label(id_) + rest + b"\n", error_stream)
        self._open.clear()

    def _wanted(self, line: bytes) -> bool:
        return self._pattern is None or self._pattern.search(line) is not None

    def label(self, id_: str, name: str = "", time_ns: int = 0) -> bytes:
        """What stands before a line."""
        stamp = f"{utc_fine(time_ns)} " if self._timestamps and time_ns else ""
        if not self.prefixed:
            return stamp.encode()
        text = f"{name or self.named.get(id_) or resolve.short(id_)} | "
        if self._colour:
            colour = self._colours.setdefault(id_, _COLOURS[len(self._colours) % len(_COLOURS)])
            text = f"\x1b[{colour}m{text}\x1b[0m"
        return (stamp + text).encode()

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
                    printer.take(line.id, line.data, line.std_stream_type == pb.STDERR, line.name, line.time_ns)
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
