"""Events as lines: when, who, where, what, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from eru.cli.resolve import short
from eru.cli.session import Session
from eru.cli.show import times
from eru.cli.show.document import as_data
from eru.cli.show.table import one_line, width
from eru.cli.show.talk import GREEN, RED, YELLOW, wants_colour
from eru.wire import v1_pb2 as v1

_COLOURS = {
    **dict.fromkeys(("failed", "refused", "down", "node-down"), RED),
    **dict.fromkeys(("unhealthy", "recovered", "released"), YELLOW),
    **dict.fromkeys(("healthy", "node-up"), GREEN),
}
WHO_MAX = 40  # columns that a name may push the rest to the right


class Timeline:
    """Prints events. `absolute`: clock times instead of "12s ago", which would go stale while following."""

    def __init__(self, session: Session, *, utc: bool, absolute: bool) -> None:
        self.session = session
        self._utc = utc
        self._absolute = absolute
        self._who = self._where = 0
        self._colour = False

    def show(self, events: Iterable[v1.Event]) -> None:
        """Print them; columns are as wide as the widest so far."""
        found = list(events)
        if self.session.tables:
            self._colour = wants_colour(sys.stdout)
            self.session.write("".join(f"{line}\n" for line in self.lines(found)))
        elif self._absolute:  # others follow
            for event in found:
                self.session.item(document(event), event.name or event.nodename)
        else:
            names = list(dict.fromkeys(event.name or event.nodename for event in found))
            self.session.show([document(event) for event in found], str, names)

    def lines(self, found: Sequence[v1.Event]) -> list[str]:
        """One each, without an end."""
        for event in found:
            self._who = max(self._who, min(width(who(event)), WHO_MAX))
            self._where = max(self._where, width(event.nodename))
        return [self._line(event) for event in found]

    def _line(self, event: v1.Event) -> str:
        kind = f"{event.kind:<9}"
        if self._colour and event.kind in _COLOURS:
            kind = f"\x1b[{_COLOURS[event.kind]}m{kind}\x1b[0m"
        told = [part for part in (event.detail, event.error) if part]
        head = f"{self._when(event)}  {_padded(who(event), self._who)}  {_padded(event.nodename, self._where)}"
        return f"{head}  {kind}  {one_line(': '.join(told))}".rstrip()

    def _when(self, event: v1.Event) -> str:
        if self._utc:
            return times.utc(event.time_ns)
        if self._absolute:
            return times.clock_time(event.time_ns)
        return f"{times.ago(event.time_ns, self.session.world.clock.now_ns()):>10}"


def who(event: v1.Event) -> str:
    """The workload, or the app when it is about no single one; "-" for what is about a node."""
    if event.name or event.id:
        return event.name or short(event.id)
    if event.appname:
        return f"{event.appname}/{event.entrypoint}" if event.entrypoint else event.appname
    return "-"


def document(event: v1.Event) -> dict[str, object]:
    """An event as data, with its time also in a form that people can read."""
    return {"time": times.utc(event.time_ns), **as_data(event)}


def _padded(text: str, columns: int) -> str:
    return text + " " * max(columns - width(text), 0)
