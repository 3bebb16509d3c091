"""`--watch` of lists: the same list again and again.

On a terminal it is redrawn in place. Elsewhere, and for `-o json` and `jsonl`,
there is one JSON line per change:

    {"event": "added", "item": {...}}      also changed, removed

An item is known by its name or id. What is there at the beginning is `added`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from eru.cli.exits import Problem, usage
from eru.cli.parse import seconds
from eru.cli.show import times
from eru.cli.show.columns import cut
from eru.cli.show.document import expanded, to_json
from eru.cli.show.table import width
from eru.cli.show.talk import DIM, YELLOW, Talk, wants_colour
from eru.model.errors import CoreUnreachable, EruError

if TYPE_CHECKING:
    from eru.cli.session import Session

INTERVAL_LEAST_S = 0.2
_PAINT = re.compile(r"\x1b\[[0-9;]*m")
Round = Callable[[], Awaitable[int | None]]


def interval(text: str) -> float:
    """Seconds of `--interval`. Raises Problem."""
    every_s = seconds("--interval", text)
    if every_s < INTERVAL_LEAST_S:
        raise usage(f"--interval {text!r} is too short", hint=f"{INTERVAL_LEAST_S:g}s is the least")
    return every_s


async def repeat(session: Session, round_: Round, every_s: float) -> int:
    """Until somebody ends it. Raises what the first round raises; later failures are told, and tried again."""
    in_place = session.screen and session.tables
    view: Picture | Changes = Picture(session, every_s) if in_place else Changes(session)
    voice, session.talk = session.talk, Talk(quiet=True)
    first = True
    while True:
        try:
            await view.look(round_)
        except (EruError, Problem) as error:
            if first:
                session.talk = voice
                raise
            if isinstance(error, Problem):
                raise
            view.trouble(voice, "core does not answer" if isinstance(error, CoreUnreachable) else str(error))
        first = False
        await session.world.clock.sleep(every_s)


class Picture:
    """The list on a terminal, redrawn where it stands."""

    def __init__(self, session: Session, every_s: float) -> None:
        self.session = session
        self.every_s = every_s
        self.text = ""
        self._drawn = 0

    async def look(self, round_: Round) -> None:
        """One round: what it would have written becomes the picture."""
        self.session.captured = []
        try:
            await round_()
            self.text = "".join(self.session.captured)
        finally:
            self.session.captured = None
        self._draw("Ctrl-C ends it", DIM)

    def trouble(self, voice: Talk, what: str) -> None:
        """The last picture, and that it is old."""
        self._draw(f"{what}; this is old, trying again", YELLOW)

    def _draw(self, note: str, colour: str) -> None:
        out = sys.stdout
        size = self.session.screen_size()
        words = " ".join([self.session.settings.program, *self.session.settings.argv])
        at = times.clock_time(self.session.world.clock.now_ns())
        head = cut(f"every {self.every_s:g}s: {words} · {at} · {note}", size.columns)
        lines = self.text.splitlines() or ["nothing"]
        room = max(size.lines - 2, 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
        erase = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        head = f"\x1b[{colour}m{head}\x1b[0m" if wants_colour(out) else head
        shown = [head, *(_fit(line, size.columns) for line in lines)]
        out.write(erase + "".join(f"{line}\n" for line in shown))
        out.flush()
        self._drawn = len(shown)


def _fit(line: str, columns: int) -> str:
    """A line that does not wrap; one that is too long loses its colours."""
    plain = _PAINT.sub("", line)
    return line if width(plain) <= columns else cut(plain, columns)


class Changes:
    """One JSON line per item that came, changed or went."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.known: dict[str, Any] = {}
        self.old = False

    async def look(self, round_: Round) -> None:
        """One round: its items are compared with those of the last."""
        found: dict[str, Any] = {}

        def take(data: Any, names: Sequence[str]) -> None:
            items = data if isinstance(data, list) else [] if data is None else [data]
            keys = names if len(names) == len(items) else [_key(item, index) for index, item in enumerate(items)]
            found.update(zip(keys, items, strict=True))

        self.session.intercept = take
        try:
            await round_()
        finally:
            self.session.intercept = None
        for key, item in found.items():
            if key not in self.known:
                self._tell("added", item)
            elif item != self.known[key]:
                self._tell("changed", item)
        for key, item in self.known.items():
            if key not in found:
                self._tell("removed", item)
        self.known = found
        self.old = False

    def trouble(self, voice: Talk, what: str) -> None:
        """Said once until it is over."""
        if not self.old:
            voice.warn(f"{what}, trying again")
        self.old = True

    def _tell(self, event: str, item: Any) -> None:
        data = expanded(item) if self.session.settings.expand else item
        self.session.write(to_json({"event": event, "item": data}, indent=None))


def _key(item: Any, index: int) -> str:
    if isinstance(item, dict):
        for name in ("id", "name", "nodename"):
            if item.get(name):
                return str(item[name])
    return str(index)
