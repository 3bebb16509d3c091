"""One line (or a few) at the bottom of a terminal that are redrawn in place; nothing when there is no terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from eru.cli.show.table import width
from eru.cli.show.talk import Talk
from eru.lib.tasks import task_owner
from eru.lib.world import World

REDRAW_S = 0.1
QUIET_START_S = 0.3  # a command that is faster shows no progress at all


class Live:
    """Lines below the permanent ones. `above` prints a permanent line without tearing them."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._drawn = 0

    def draw(self, lines: list[str]) -> None:
        """Replace what is drawn."""
        if not self.talk.live:
            return
        size = self._size()
        text = self._erase() + "".join(f"{_cut(line, size.columns - 1)}\n" for line in lines[: size.lines - 2])
        self._drawn = min(len(lines), max(size.lines - 2, 0))
        self.talk.out.write(text)
        self.talk.out.flush()

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self.talk.out.fileno())
        except OSError:
            size = os.terminal_size((0, 0))
        return os.terminal_size((size.columns or 80, size.lines or 24))  # a terminal may not know its size

    def clear(self) -> None:
        """Take the lines away."""
        self.talk.out.write(self._erase())
        self.talk.out.flush()

    def _erase(self) -> str:
        text = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        self._drawn = 0
        return text


def _cut(line: str, columns: int) -> str:
    while line and width(line) > columns:
        line = line[:-1]
    return line


@asynccontextmanager
async def progress(talk: Talk, world: World, lines: Callable[[float], list[str]]) -> AsyncIterator[Live]:
    """Redraw `lines(seconds since start)` all the time while the block runs."""
    live = Live(talk)
    started = world.clock.monotonic()

    async def redraw() -> None:
        await world.clock.sleep(QUIET_START_S)
        while True:
            live.draw(lines(world.clock.monotonic() - started))
            await world.clock.sleep(REDRAW_S)

    async with task_owner("progress") as owner:
        if talk.live:
            owner.start("redraw", redraw())
        try:
            yield live
        finally:
            await owner.close()
            with suppress(ValueError):
                live.clear()
