"""Where an attach begins in a workload's output: what was kept before it, and the joint with what comes live.

Only complete lines are joined. The first live line of a stream may lack its
beginning, but once its end is there the kept log has it whole, and the length
of what came live says where in it the attach began, whatever the line holds.
A line that is longer than may be held until then is joined by its content.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from eru.agent.logs.cursor import Place
from eru.agent.logs.records import STDERR, STDOUT
from eru.agent.logs.replay import (
    Anchor,
    AnchorSearch,
    Joiner,
    already_known,
    live_lines,
    missing_of_open_line,
)
from eru.agent.runtime import LogSource, PastLine
from eru.agent.workloads import Workload
from eru.lib.world import World

TRIES = 7  # an engine keeps lines a moment later than it delivers them
LATER_TRIES = 4
RETRY_FIRST_S = 0.005  # doubling: about 0.6 s in all
UNFINISHED_MAX = 8 << 20  # bytes of a kept line without its end; larger ones are parts
KNOWN_MAX = 1000  # kept lines handed on that may still arrive live

HandOn = Callable[[list[PastLine]], Awaitable[None]]


class Met(msgspec.Struct):
    """How live bytes go on: `skip` so many lines of a stream, put `missing` before a stream's first line."""

    skip: dict[int, int]
    missing: dict[int, bytes]
    complete: bool


class Past:
    """Kept output of one workload in complete lines. `ended`: whether it will print no more."""

    def __init__(self, source: LogSource, workload: Workload, ended: Callable[[], bool]) -> None:
        self._source = source
        self._workload = workload
        self._ended = ended
        self.unfinished: dict[int, PastLine] = {}  # stream -> the line that was still being printed when last read

    async def lines(self, since_ns: int, recent: bool = False) -> AsyncIterator[list[PastLine]]:
        """In batches, oldest first; a line that is still being printed is put aside in `unfinished`.

        `recent`: only the last ones.
        """
        history = self._source.history(self._workload.id, tty=self._workload.tty, since_ns=since_ns, recent=recent)
        self.unfinished = {}
        async with aclosing(_generator(history)) as batches:
            async for lines in batches:
                if not lines[-1].data.endswith(b"\n") and not self._ended():
                    self.unfinished |= {line.stream: line for line in lines if _is_unfinished(line)}
                    lines = [line for line in lines if not _is_unfinished(line)]
                if lines:
                    yield lines


class Joint:
    """Of one attach, asked for at `asked_ns`. What lies before its live bytes goes to `hand_on`."""

    def __init__(self, world: World, past: Past, place: Place, asked_ns: int, hand_on: HandOn) -> None:
        self._world = world
        self._past = past
        self._place = place
        self._asked_ns = asked_ns
        self._hand_on = hand_on
        self._anchor = Anchor({})
        self._known: deque[PastLine] = deque(maxlen=KNOWN_MAX)

    async def locate(self) -> None:
        """Find the place in the kept log; comes first. Raises EngineError, as all of these do."""
        search = AnchorSearch(self._place)
        if any(self._place.tails.values()):
            async with aclosing(
                _generator(self._past.lines(min(self._place.since_ns, self._place.last_ns)))
            ) as batches:
                async for lines in batches:
                    for line in lines:
                        search.feed(line)
        self._anchor = search.anchor()

    async def before(self) -> bool:
        """Hand on new kept lines from before the attach was asked for; whether there are later ones."""
        async with aclosing(self._new()) as batches:
            async for new in batches:
                before = [line for line in new if line.time_ns < self._asked_ns]
                await self._pass(before)
                if len(before) < len(new):
                    return True
        return False

    async def everything(self) -> None:
        """Hand on all new kept lines; the last ones may still come live and are remembered for `meet`."""
        async with aclosing(self._new()) as batches:
            async for new in batches:
                await self._pass(new)
                self._known.extend(new)

    async def meet(self, live: dict[int, bytes], *, since_ns: int = 0) -> Met:
        """Hand on the kept lines before these live bytes and none of theirs.

        `live`: per stream all that came since the attach; those without a line
        end are left for later. With `since_ns` one stream is joined later than
        the others: it is looked for from then on among the last kept lines,
        and others are not touched.
        """
        lines = live_lines(live)
        skip = already_known(self._known, lines)
        wanted = {stream: first for stream, first in lines.items() if stream not in skip}
        streams = set(lines) if since_ns else {STDOUT, STDERR}
        pause_s, tries = RETRY_FIRST_S, LATER_TRIES if since_ns else TRIES
        for attempt in range(tries + 1):
            joiner = Joiner(self._asked_ns, wanted)
            async with aclosing(self._new(since_ns)) as batches:
                async for new in batches:
                    if joiner.complete:
                        break
                    await self._pass(joiner.feed([line for line in new if line.stream in streams]))
            await self._pass(joiner.settle())
            if joiner.complete or attempt == tries:
                break
            await self._world.clock.sleep(pause_s)
            pause_s *= 2
        rest = joiner.rest()
        await self._pass(rest)
        self._known.extend(rest)
        return Met(skip, dict(joiner.missing), joiner.complete)

    async def meet_open(self, stream: int, live: bytes, *, since_ns: int) -> Met:
        """As `meet` for one stream whose first line is too long to wait for its end."""
        async with aclosing(self._new(since_ns)) as batches:
            async for _ in batches:
                pass  # complete lines were handed on before; it is what is put aside meanwhile that counts
        kept = self._past.unfinished.get(stream)
        missing = missing_of_open_line(kept, live, self._asked_ns) if kept is not None else b""
        return Met({}, {stream: missing} if missing else {}, kept is not None)

    async def _new(self, since_ns: int = 0) -> Any:
        known = Anchor(dict(self._anchor.upto_ns))  # parts of a very long line have one time: not what this pass adds
        async with aclosing(_generator(self._past.lines(max(since_ns, known.since_ns)))) as batches:
            async for lines in batches:
                yield [line for line in lines if known.is_new(line)]

    async def _pass(self, lines: list[PastLine]) -> None:
        await self._hand_on(lines)
        self._anchor.passed(lines)


def _is_unfinished(line: PastLine) -> bool:
    return not line.data.endswith(b"\n") and len(line.data) < UNFINISHED_MAX


async def _generator(lines: Any) -> Any:
    async for line in lines:
        yield line
